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
from typing import Any, NoReturn

from components import recipe
from components.refusal import Refusal, Stopped, closest, of_machine

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
    signal.signal(signal.SIGTERM, _interrupt)
    return answered(lambda: _called(arguments))


def answered(command: Callable[[], int | None]) -> int:
    """The exit code of `command`; what its user can put right is said in one line."""
    try:
        return int(command() or 0)
    except Refusal as refusal:
        print(f"trainyard: {' '.join(str(refusal).split())}", file=sys.stderr)  # a reason from elsewhere may have lines
        return 2
    except OSError as error:
        if (said := of_machine(error)) is None:
            raise
        print(f"trainyard: {said}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"trainyard: stopped: {stopped}; repeat the command and it goes on from there", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("trainyard: interrupted; repeat the command and it goes on from the last checkpoint", file=sys.stderr)
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
            message = f"no command '{wrong[1]}'{closest(wrong[1], choices)}"
        elif unknown:
            message += closest(unknown[1], known)
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
    ui = commands.add_parser("ui", help="MLflow's pages on this machine")
    ui.add_argument("--port", type=_whole(1, 65535), default=5000)
    ui.set_defaults(run=_module("ui"))
    chaos = commands.add_parser("chaos", help="kill everything at random in a copy, and show that nothing is lost")
    chaos.add_argument("--kills", type=_whole(1), default=10)
    chaos.add_argument("--seed", type=_whole(0), default=0)
    chaos.add_argument("--victims", nargs="*", default=[], help="worker, controller, node, stage, dvc, tracker (all)")
    chaos.add_argument("--keep", action="store_true", help="leave the copies for a look at their logs")
    chaos.set_defaults(run=_module("chaos"))
    for name in STAGES:
        commands.add_parser(name, help=f"the stage {name} (normally run by dvc repro)").set_defaults(run=_stage(name))
    fit = commands.add_parser("fit", help="one recipe: prepare, fit, evaluate (normally run by dvc repro)")
    fit.add_argument("recipe")
    fit.set_defaults(run=_fit)
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
