"""`trainyard run`: run the stages that changed on a local Ray cluster that ends with the command; then the summary."""

from __future__ import annotations

import os
import time
from pathlib import Path

from components.cluster.plan import requested_workers
from components.processes import BIN
from components.recipes import recipe
from components.tracking import probe, server
from components.workspace import work_folder
from pipelines.commands import summary
from pipelines.commands.dvc import repro
from pipelines.flagship import METRICS_FILE
from pipelines.stage.check import check_flagship
from pipelines.stage.dvc_files import FILE, check_repository, check_targets

STARTED = "begun"  # file in the work folder: the targets of a `trainyard run` that has not finished


def main(targets: list[str], workers: str | None, budget: float | None = None) -> int:
    """Check params, repository and targets, run what changed, and print a summary; return an exit code.

    budget: seconds after which the run stops at a checkpoint (Stopped); the same command continues from there.
    """
    deadline = None if budget is None else time.monotonic() + budget
    check_flagship(recipe.load("params.yaml"))
    check_repository()
    targets = [f"{target.rstrip('/')}/{FILE}" if Path(target, FILE).is_file() else target for target in targets]
    check_targets(targets)
    if workers is not None:
        os.environ["TRAINYARD_WORKERS"] = workers
    requested_workers()
    probe.refuse_lasting_faults(server.tracking_uri())
    # Stages call `python`: it must be the one of this environment.
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    started = work_folder() / STARTED
    if not (repro.is_unfinished(targets, started) or repro.has_work(targets)):
        print("nothing changed: no stage to run")
        return _print_results(targets)
    started.parent.mkdir(parents=True, exist_ok=True)
    started.write_text(" ".join(targets))
    if code := repro.run_on_local_cluster(lambda: repro.reproduce(*targets, deadline=deadline)):
        return code
    started.unlink(missing_ok=True)  # the work folder may be deleted at any time
    from pipelines.reports import plots, report

    report.write_report()  # again, because the seconds of all stages are known only now
    plots.write_template()
    return _print_results(targets)


def _print_results(targets: list[str]) -> int:
    """Print the summary of an evaluated flagship; for families and single stages print where to look."""
    if any("/" in target for target in targets):
        print("all results: dvc metrics show; a family side by side: trainyard compare FOLDER")
        if any(target.startswith("pipelines/own/") for target in targets):
            print(f"scores and pictures: {summary.REPORT.resolve().as_uri()}")
        return 0
    if targets and not Path(METRICS_FILE).is_file():
        print("the summary needs all stages: trainyard run")
        return 0
    return summary.main()
