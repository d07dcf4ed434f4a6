"""The command `trainyard`, and the front door of every DVC stage (`python -m pipelines STAGE`). Thin on purpose."""

from __future__ import annotations

import argparse
import atexit
import importlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from components.errors import Refusal, Stopped, TryLater, explain_os_error, suggest_name
from components.recipes import recipe

STAGES = ("prepare", "augment", "pretrain", "tune", "finetune", "evaluate")
LATER = 75  # EX_TEMPFAIL of sysexits.h
ENDED = "TRAINYARD_ENDED"  # a file for the exit code of a stage that failed: dvc's own is always 255
EXAMPLES = """\
examples:
  trainyard doctor                    is everything here? each problem with its remedy
  trainyard run                       the flagship: a local Ray cluster, dvc repro, a summary
  trainyard run --workers 1           on one worker, not on one a processor
  trainyard retrain                   for a schedule: if anything changed, train, compare, promote the better model
  trainyard rollback                  the champion before takes its place again
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
    if code and ENDED in os.environ:
        Path(os.environ[ENDED]).write_text(str(code))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done; 2 bad input, said in one line; 4 `retrain` refused the data; 75 not now, try again;
    130 interrupted; 1 anything else."""
    signal.signal(signal.SIGTERM, _interrupt)
    return answered(lambda: _called(arguments))


def answered(command: Callable[[], int | None]) -> int:
    """The exit code of `command`; what its user can put right is said in one line."""
    try:
        return int(command() or 0)
    except Refusal as refusal:
        print(f"trainyard: {' '.join(str(refusal).split())}", file=sys.stderr)  # a reason from elsewhere may have lines
        return 2
    except TryLater as later:
        print(f"trainyard: not now: {later}", file=sys.stderr)
        return LATER
    except OSError as error:
        if (said := explain_os_error(error)) is None:
            raise
        print(f"trainyard: {said}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"trainyard: stopped: {stopped}; repeat the command and it goes on from there", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("trainyard: interrupted; what was saved is kept: repeat the command and it goes on", file=sys.stderr)
        return 130


def _called(arguments: list[str] | None) -> int | None:
    given = parser().parse_args(arguments)
    done: int | None = given.run(given)
    return done


class _Parser(argparse.ArgumentParser):
    """One line for a wrong command, too, with a 'did you mean'."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What is unknown to a command is said by itself, for it knows the names that could be meant."""
        given, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return given, unknown

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        known = [option for action in self._actions for option in action.option_strings]
        if wrong:
            choices = re.findall(r"[\w-]+", wrong[2])
            message = f"no command '{wrong[1]}'{suggest_name(wrong[1], choices)}"
        elif unknown:
            message += suggest_name(unknown[1], known)
        raise Refusal(f"{message}; see {self.prog} --help")


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM ends a command as Ctrl-C does: in order."""
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="trainyard",
        description="Experiments as a pipeline: DVC stages on Ray workers, searched by Ray Tune, recorded in MLflow.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="run what has changed on a local Ray cluster, then sum up")
    run.add_argument("targets", nargs="*", help="DVC stages or files; all of the flagship when left out")
    run.add_argument("--workers", help="workers a stage (default: all GPUs; else in training one a processor)")
    run.set_defaults(run=_module("commands.run"))
    for name, help in (
        ("summary", "the last run's result in a few lines"),
        ("report", "write the static report again: reports/index.html, and DVC's plots beside it"),
        ("sync", "send what a tracking server did not take while it was away"),
    ):
        commands.add_parser(name, help=help).set_defaults(run=_module(name))
    doctor = commands.add_parser("doctor", help="check environment, ports, disk, original files, tracker, GPU")
    doctor.add_argument(
        "recipe", nargs="?", default="params.yaml", help="whose files are needed (default: params.yaml)"
    )
    doctor.set_defaults(run=_module("commands.doctor"))
    retrain = commands.add_parser("retrain", help="what a schedule calls: train what changed, promote what is better")
    retrain.add_argument("--update", action="store_true", help="first bring imported sources up to date (dvc update)")
    retrain.add_argument("--wait", action="store_true", help="wait for another retrain instead of declining")
    retrain.set_defaults(run=_module("commands.promotion.retrain"))
    rollback = commands.add_parser("rollback", help="make the champion before the champion again")
    rollback.add_argument("--to", metavar="VERSION", help="another version of the registered model")
    rollback.add_argument("--because", metavar="TEXT", help="the reason, for the record")
    rollback.set_defaults(run=_module("commands.promotion.rollback"))
    promote = commands.add_parser("promote", help="make a version the champion without the gate")
    promote.add_argument("to", metavar="VERSION")
    promote.add_argument("--because", metavar="TEXT", required=True, help="the reason, for the record")
    promote.set_defaults(run=_promote)
    check = commands.add_parser("plan", help="check the params or recipes, and show what would run")
    check.add_argument("recipes", nargs="*", default=["params.yaml"], help="YAML files (default: params.yaml)")
    check.set_defaults(run=_module("commands.plan"))
    compare = commands.add_parser("compare", help="the systems of a family side by side: scores and what they cost")
    compare.add_argument("family", help="its folder, such as pipelines/vision")
    compare.add_argument("--readme", action="store_true", help="put the table into the family's README.md, too")
    compare.set_defaults(run=_module("commands.compare"))
    verify = commands.add_parser("verify", help="make a registered model again in a copy, and compare")
    verify.add_argument("version", nargs="?", help="of the registered model (default: the champion, or the newest)")
    verify.add_argument("--keep", action="store_true", help="leave the copy for a look")
    verify.set_defaults(run=_module("commands.verify"))
    ui = commands.add_parser("ui", help="MLflow's pages on this machine")
    ui.add_argument("--port", type=_whole(1, 65535), default=5000)
    ui.set_defaults(run=_module("commands.ui"))
    chaos = commands.add_parser("chaos", help="kill everything at random in a copy, and show that nothing is lost")
    chaos.add_argument("--kills", type=_whole(1), default=10)
    chaos.add_argument("--seed", type=_whole(0), default=0)
    chaos.add_argument("--victims", nargs="*", default=[], help="worker, node, stage, dvc, tracker (all)")
    chaos.add_argument(
        "--here", action="store_true", help="with params.yaml as it is, against the results that are here"
    )
    chaos.add_argument("--keep", action="store_true", help="leave the copies for a look at their logs")
    chaos.set_defaults(run=_module("commands.chaos"))
    for name in STAGES:
        commands.add_parser(name, help=f"the stage {name} (normally run by dvc repro)").set_defaults(run=_stage(name))
    tracker = commands.add_parser("tracker", help="a team's MLflow server, with passwords: PostgreSQL, object store")
    tracker.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a container")
    tracker.add_argument("--port", type=_whole(1, 65535), default=5000)
    tracker.add_argument("--workers", type=_whole(1), default=2, help="processes that answer")
    tracker.set_defaults(run=_module("commands.tracker"))
    submit = commands.add_parser("submit", help="run one of these commands on a Ray cluster, through its Jobs API")
    submit.add_argument("--address", help="of its dashboard (default: RAY_API_SERVER_ADDRESS, http://127.0.0.1:8265)")
    submit.add_argument("--folder", help="the checkout there, which all its machines share (default: this one)")
    submit.add_argument("--python", help="the environment there (default: this one)")
    submit.add_argument("command", nargs=argparse.REMAINDER, help="such as: retrain")
    submit.set_defaults(run=_module("commands.submit"))
    schedule = commands.add_parser("schedule", help="print what makes a schedule call `retrain`")
    schedule.add_argument("--to", required=True, metavar="KIND", help="cron, systemd, kuberay or kubernetes")
    schedule.add_argument("--at", default="0 3 * * *", help="when, in cron's five fields (default: every day at 3:00)")
    schedule.add_argument("--folder", help="the checkout (default: this one; in a cluster /yard)")
    schedule.add_argument("--python", help="the environment's (default: this one; in a cluster python)")
    schedule.add_argument("--user", help="who runs it (default: you)")
    schedule.add_argument("--address", help="run it on the cluster with this dashboard (http://HOST:8265)")
    schedule.add_argument("--image", help="of the container that submits (kuberay, kubernetes)")
    schedule.add_argument("--write", metavar="FOLDER", help="write the files there instead of printing them")
    schedule.set_defaults(run=_module("commands.schedule"))
    fit = commands.add_parser("fit", help="one recipe: prepare, fit, evaluate (normally run by dvc repro)")
    fit.add_argument("path", metavar="recipe")
    fit.set_defaults(run=_module("fit"))
    return top


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number in a range, as an argument's type."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least or (most is not None and int(text) > most):
            limits = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, not '{text}'")
        return int(text)

    return read


def _module(name: str):  # type: ignore[no-untyped-def]
    return lambda given: importlib.import_module(f"pipelines.{name}").main(**_options(given))


def _options(given: argparse.Namespace) -> dict:
    return {name: value for name, value in vars(given).items() if name != "run"}


def _stage(name: str):  # type: ignore[no-untyped-def]
    def run(given: argparse.Namespace) -> None:
        from components.processes import end_with_parent
        from pipelines.stage.check import check_flagship
        from pipelines.stage.dvc_files import check_inputs

        if "DVC_STAGE" in os.environ:  # dvc's own child: a killed dvc leaves no stage at work
            end_with_parent()
        params = recipe.load("params.yaml")
        check_flagship(params)
        check_inputs(name)
        importlib.import_module(f"pipelines.{name}").main(params)

    return run


def _promote(given: argparse.Namespace) -> int:
    from pipelines.commands.promotion import rollback

    return rollback.promote(given.to, given.because)
