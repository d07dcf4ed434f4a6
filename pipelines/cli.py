"""The command `trainyard`, and the front door of every DVC stage (`python -m pipelines STAGE`). Thin on purpose."""

from __future__ import annotations

import argparse
import atexit
import importlib
import os
import signal
import sys
import traceback

from components import recipe
from components.refusal import Refusal, Stopped

STAGES = ("prepare", "augment", "pretrain", "tune", "finetune", "evaluate")
EXAMPLES = """\
examples:
  trainyard doctor                    is everything here? each problem with its remedy
  trainyard run                       the flagship: a local Ray cluster, dvc repro, a summary
  trainyard run --workers 2           the same results, spread over two workers
  trainyard ui                        MLflow on this machine, with links to the runs' charts
  dvc exp run -S tune.search.samples=4     one change, one experiment
  dvc repro pipelines/vision/dvc.yaml:fit@lenet
"""


def run() -> None:
    """`main` as a process of its own.

    A thread that still sends to a slow tracker when all is done may be inside C++ code, which Python's orderly exit
    would tear apart (SIGABRT, after all results are written): it is left where it is.
    """
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done; 2 bad input, said in one line; 130 interrupted; 1 anything else."""
    given = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(given.run(given) or 0)
    except Refusal as refusal:
        print(f"trainyard: {refusal}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"trainyard: stopped: {stopped}; repeat the command and it goes on from there", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("trainyard: interrupted; repeat the command and it goes on from the last checkpoint", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM ends a command as Ctrl-C does: in order."""
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="trainyard",
        description="Experiments as a pipeline: DVC stages on Ray workers, searched by Ray Tune, recorded in MLflow.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="run what has changed on a local Ray cluster, then sum up")
    run.add_argument("targets", nargs="*", help="DVC stages or files; all of the flagship when left out")
    run.add_argument("--workers", help="workers a stage (default: all GPUs, else one a machine)")
    run.set_defaults(run=_flagship)
    for name, help in (
        ("summary", "the last run's result in a few lines"),
        ("report", "write the static report again: reports/index.html, and DVC's plots beside it"),
        ("doctor", "check environment, ports, disk, raw data, tracker, GPU"),
        ("sync", "send what a tracking server did not take while it was away"),
    ):
        commands.add_parser(name, help=help).set_defaults(run=_module(name))
    check = commands.add_parser("plan", help="check the params or recipes, and show what would run")
    check.add_argument("recipes", nargs="*", default=["params.yaml"])
    check.set_defaults(run=_module("plan"))
    compare = commands.add_parser("compare", help="the systems of a family side by side: scores and what they cost")
    compare.add_argument("family", help="its folder, such as pipelines/vision")
    compare.set_defaults(run=_module("compare"))
    ui = commands.add_parser("ui", help="MLflow's pages on this machine")
    ui.add_argument("--port", type=int, default=5000)
    ui.set_defaults(run=_module("ui"))
    chaos = commands.add_parser("chaos", help="kill everything at random in a copy, and show that nothing is lost")
    chaos.add_argument("--kills", type=int, default=10)
    chaos.add_argument("--seed", type=int, default=0)
    chaos.add_argument("--victims", nargs="*", default=[], help="worker, controller, node, stage, dvc, tracker (all)")
    chaos.add_argument("--keep", action="store_true", help="leave the copies for a look at their logs")
    chaos.set_defaults(run=_module("chaos"))
    for name in STAGES:
        commands.add_parser(name, help=f"the stage {name} (normally run by dvc repro)").set_defaults(run=_stage(name))
    fit = commands.add_parser("fit", help="one recipe: prepare, fit, evaluate (normally run by dvc repro)")
    fit.add_argument("recipe")
    fit.set_defaults(run=_fit)
    return top


def _module(name: str):  # type: ignore[no-untyped-def]
    return lambda given: importlib.import_module(f"pipelines.{name}").main(**_options(given))


def _options(given: argparse.Namespace) -> dict:
    return {name: value for name, value in vars(given).items() if name != "run"}


def _stage(name: str):  # type: ignore[no-untyped-def]
    def run(given: argparse.Namespace) -> None:
        from pipelines.check import check_flagship

        params = recipe.load("params.yaml")
        check_flagship(params)
        importlib.import_module(f"pipelines.{name}").main(params)

    return run


def _fit(given: argparse.Namespace) -> None:
    from pipelines import fit

    fit.main(given.recipe)


def _flagship(given: argparse.Namespace) -> int:
    from pipelines import run

    return run.main(given.targets, given.workers)
