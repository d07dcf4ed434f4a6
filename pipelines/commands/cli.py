"""Dispatch `trainyard COMMAND`, and every DVC stage (`python -m pipelines STAGE`), to the function that does it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from components import environment_file, processes
from components.recipes import recipe
from pipelines.commands.parser import STAGES, build_parser

FUNCTIONS = {  # command -> function below `pipelines`, which takes the options as keywords
    "run": "commands.run.main",
    "summary": "commands.summary.main",
    "report": "reports.report.main",
    "sync": "commands.sync.main",
    "doctor": "commands.doctor.main",
    "retrain": "commands.promotion.retrain.main",
    "rollback": "commands.promotion.rollback.main",
    "promote": "commands.promotion.rollback.promote",
    "inspect": "commands.inspect.main",
    "plan": "commands.plan.main",
    "compare": "commands.compare.main",
    "results": "commands.results.page.main",
    "verify": "commands.verify.main",
    "ui": "commands.ui.main",
    "chaos": "commands.chaos.main",
    "tracker": "commands.tracker.main",
    "study": "commands.study.main",
    "export": "commands.export.main",
    "glue": "commands.glue.main",
    "submit": "commands.submit.main",
    "schedule": "commands.schedule.main",
    "fit": "fit.main",
}


def call_command(arguments: list[str] | None = None) -> int | None:
    """Run the command that `arguments` name (default: those of this process) and return what it returns."""
    options = vars(build_parser().parse_args(arguments))
    if file := options.pop("environment_file"):
        environment_file.name_environment_file(file)
    environment_file.load_environment_file()
    verb = options.pop("verb")
    if verb in STAGES:
        run_stage(verb)
        return None
    code: int | None = _import_function(FUNCTIONS[verb])(**options)
    return code


def run_stage(name: str) -> None:
    """Check params.yaml and the stage's inputs, then run the stage."""
    from pipelines.stage.check import check_flagship
    from pipelines.stage.dvc_files import check_inputs

    if "DVC_STAGE" in os.environ:  # dvc started this process: if dvc is killed, the stage must end, too
        processes.end_with_parent()
    params = recipe.load("params.yaml")
    check_flagship(params)
    check_inputs(name)
    _import_function(f"{name}.main")(params)


def _import_function(path: str) -> Callable[..., Any]:
    """Import a function below `pipelines` only when it is called, so that every command starts quickly."""
    module, _, name = path.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(f"pipelines.{module}"), name)
    return function
