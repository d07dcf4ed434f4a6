"""Define the command line: every command and option, without importing the commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from components.errors import Refusal, suggest_name
from components.tracking.server import PORT

STAGES = ("prepare", "augment", "pretrain", "tune", "finetune", "evaluate")
EXAMPLES = """\
examples:
  trainyard doctor                    check this machine; every problem comes with its remedy
  trainyard inspect data/raw/pets     describe your own data, list what is odd, propose a recipe
  trainyard run                       run the flagship: a local Ray cluster, dvc repro, a summary
  trainyard run --workers 1           use one worker instead of one per CPU
  trainyard retrain                   for a schedule: if anything changed, train, compare, promote the better model
  trainyard rollback                  make the previous champion the champion again
  trainyard ui                        open MLflow on this machine, with links to the charts of the runs
  dvc exp run -S tune.search.samples=4     change one parameter, run one experiment
  dvc repro pipelines/vision/dvc.yaml:fit@lenet
"""


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong input as one line with a suggestion."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reject unknown arguments in the subparser, because only it knows which options may be meant."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Raise a Refusal instead of printing the usage and exiting."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        if choice:
            commands = re.findall(r"[\w-]+", choice[2])
            message = f"no command '{choice[1]}'{suggest_name(choice[1], commands)}"
        elif unknown:
            options = [option for action in self._actions for option in action.option_strings]
            message += suggest_name(unknown[1], options)
        raise Refusal(f"{message}; see {self.prog} --help")


def build_parser() -> Parser:
    """Return the parser of all commands; its result names the command in `verb`."""
    parser = Parser(
        prog="trainyard",
        description="Experiments as a pipeline: DVC stages on Ray workers, searched by Ray Tune, recorded in MLflow.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--env-file", dest="environment_file", metavar="FILE", help="first read variables from this file (NAME=VALUE)"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="verb", required=True)
    _add_run(commands)
    _add_promotion(commands)
    _add_inspection(commands)
    for name in STAGES:
        commands.add_parser(name, help=f"run the stage {name} (normally started by dvc repro)")
    _add_operation(commands)
    fit = commands.add_parser("fit", help="prepare, fit and evaluate one recipe (normally started by dvc repro)")
    fit.add_argument("path", metavar="recipe")
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="run what has changed on a local Ray cluster, then print a summary")
    run.add_argument("targets", nargs="*", help="DVC stages or files (default: the whole flagship)")
    run.add_argument("--workers", help="workers per stage (default: one per GPU; without GPUs one per CPU in training)")
    run.add_argument("--budget", type=parse_duration, help="stop at a checkpoint after this time, such as 90s, 30m, 2h")
    commands.add_parser("summary", help="print the result of the last run in a few lines")
    commands.add_parser("report", help="write the static report again: reports/index.html, and DVC's plots beside it")
    commands.add_parser("sync", help="send the records that a tracking server missed while it was unavailable")
    doctor = commands.add_parser("doctor", help="check environment, ports, disk, original files, tracker, GPU")
    doctor.add_argument("recipe", nargs="?", default="params.yaml", help="check its files, too (default: params.yaml)")


def _add_promotion(commands: Any) -> None:
    retrain = commands.add_parser("retrain", help="train what changed and promote the better model (for a schedule)")
    retrain.add_argument("--update", action="store_true", help="first update imported sources (dvc update)")
    retrain.add_argument("--wait", action="store_true", help="wait for another retrain instead of giving up")
    rollback = commands.add_parser("rollback", help="make the previous champion the champion again")
    rollback.add_argument("--to", metavar="VERSION", help="choose this version of the registered model instead")
    rollback.add_argument("--because", metavar="TEXT", help="the reason, for the record")
    promote = commands.add_parser("promote", help="make a version the champion without the gate")
    promote.add_argument("to", metavar="VERSION")
    promote.add_argument("--because", metavar="TEXT", required=True, help="the reason, for the record")


def _add_inspection(commands: Any) -> None:
    inspect = commands.add_parser("inspect", help="describe a folder or file of your own, and propose a recipe")
    inspect.add_argument("path", help="such as data/raw/pets or mails.csv")
    inspect.add_argument("--write", metavar="NAME", help="write the recipe and its DVC stage below pipelines/own")
    plan = commands.add_parser("plan", help="check the params or recipes, and show what would run")
    plan.add_argument("recipes", nargs="*", default=["params.yaml"], help="YAML files (default: params.yaml)")
    compare = commands.add_parser("compare", help="compare the systems of a family: their scores and costs")
    compare.add_argument("family", help="its folder, such as pipelines/vision")
    compare.add_argument("--records", action="store_true", help="compare records over seeds (docs/records), not runs")
    compare.add_argument("--readme", action="store_true", help="also write the table into the family's README.md")
    results = commands.add_parser("results", help="write the tables of RESULTS.md from the records in docs/records")
    results.add_argument("--measure", nargs="*", default=[], metavar="RECIPE", help="first run these over their seeds")
    results.add_argument("--seeds", type=integer_type(1), help="seeds to run (default: as the recipe's header says)")
    results.add_argument("--add", action="store_true", help="keep the seeds that the record has; run the others")
    study = commands.add_parser("study", help="write the newest search of a recipe for Optuna's dashboard")
    study.add_argument("source", help="a recipe, params.yaml, or a folder in .trainyard/runs")
    study.add_argument("file", help="the new file: .db for SQLite, .log for Optuna's journal")
    verify = commands.add_parser("verify", help="rebuild a registered model or a result in a copy, and compare")
    verify.add_argument(
        "what",
        nargs="?",
        help="version, MODEL/VERSION, or results/FAMILY/SYSTEM (default: the champion, or the newest)",
    )
    verify.add_argument("--keep", action="store_true", help="keep the copy for inspection")
    verify.add_argument(
        "--tolerance", type=parse_tolerance, default=0.02, help="of metrics on other hardware (default: 0.02)"
    )
    verify.add_argument("--report", metavar="FILE", help="write a statement that can be signed (in-toto, SLSA)")
    verify.add_argument("--check", metavar="FILE", help="check such a statement and its signature FILE.sig instead")
    verify.add_argument("--signers", metavar="FILE", help="allowed signers of the statement (ssh-keygen)")
    ui = commands.add_parser("ui", help="serve MLflow's pages on this machine")
    ui.add_argument("--port", type=integer_type(1, 65535), default=PORT)
    chaos = commands.add_parser("chaos", help="kill processes at random in a copy, and check that nothing is lost")
    chaos.add_argument("--kills", type=integer_type(1), default=10, help="processes to kill (default: 10)")
    chaos.add_argument("--seed", type=integer_type(0), default=0, help="seed of the random moments (default: 0)")
    chaos.add_argument("--victims", nargs="*", default=[], help="worker, node, stage, dvc, tracker (default: all)")
    chaos.add_argument(
        "--here", action="store_true", help="use params.yaml unchanged, and compare with the results in this folder"
    )
    chaos.add_argument("--keep", action="store_true", help="keep the copies and their logs for inspection")
    chaos.add_argument("--record", type=Path, help="add finished runs to this file, and report all that it holds")


def _add_operation(commands: Any) -> None:
    tracker = commands.add_parser("tracker", help="run a team's MLflow server: passwords, PostgreSQL, object store")
    tracker.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a container")
    tracker.add_argument("--port", type=integer_type(1, 65535), default=PORT)
    tracker.add_argument("--workers", type=integer_type(1), default=2, help="server processes")
    export = commands.add_parser("export", help="write an exported BERT in the format of other software")
    export.add_argument("model", help="its folder, such as results/bert/manual/model")
    export.add_argument("--to", choices=["huggingface"], default="huggingface", help="the format")
    export.add_argument("folder", help="the new folder")
    glue = commands.add_parser("glue", help="fine-tune a BERT on the tasks of GLUE at hand, and report their metrics")
    glue.add_argument("--start", metavar="FOLDER", help="the BERT (default: the one that the recipes name)")
    glue.add_argument("--seeds", type=integer_type(1), default=3, help="runs per task (default: 3)")
    glue.add_argument("--tasks", nargs="*", default=[], help="which ones (default: all whose data are here)")
    glue.add_argument("--raw", default="data/raw", help="folder of the original files (default: data/raw)")
    glue.add_argument("--readme", action="store_true", help="also write the table into the README.md of pipelines/bert")
    submit = commands.add_parser("submit", help="run one of these commands on a Ray cluster, through its Jobs API")
    submit.add_argument(
        "--address", help="the cluster's dashboard (default: RAY_API_SERVER_ADDRESS, http://127.0.0.1:8265)"
    )
    submit.add_argument("--folder", help="checkout that all machines of the cluster share (default: this one)")
    submit.add_argument("--python", help="Python of the environment there (default: this one)")
    submit.add_argument(
        "--to", choices=["ray", "slurm"], default="ray", help="a Ray cluster (default), or Slurm's queue"
    )
    _add_slurm(submit)
    submit.add_argument("--write", metavar="FILE", help="write Slurm's script there instead of queueing it")
    submit.add_argument("command", nargs=argparse.REMAINDER, help="such as: retrain")
    schedule = commands.add_parser("schedule", help="print the files that make a scheduler call `retrain`")
    schedule.add_argument("--to", required=True, metavar="KIND", help="cron, systemd, slurm, kuberay or kubernetes")
    schedule.add_argument("--at", default="0 3 * * *", help="time in cron's five fields (default: every day at 3:00)")
    schedule.add_argument("--zone", help="time zone of --at, such as Europe/Berlin (default: that of the machine)")
    schedule.add_argument("--env-file", metavar="FILE", help="file of secrets, NAME=VALUE (cron, systemd)")
    schedule.add_argument("--folder", help="the checkout (default: this one; in a cluster /yard)")
    schedule.add_argument("--python", help="Python of the environment (default: this one; in a cluster python)")
    schedule.add_argument("--user", help="user that runs the command (default: you)")
    schedule.add_argument("--address", help="run it on the cluster with this dashboard (http://HOST:8265)")
    schedule.add_argument("--image", help="image of the container that submits (kuberay, kubernetes)")
    _add_slurm(schedule)
    schedule.add_argument("--write", metavar="FOLDER", help="write the files there instead of printing them")


def _add_slurm(command: Any) -> None:
    """Add the options of a job of Slurm."""
    command.add_argument("--nodes", type=integer_type(1), help="nodes of the Slurm job (default: 1)")
    command.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="option of sbatch, such as --partition=gpu"
    )


def parse_tolerance(text: str) -> float:
    """Return the number from 0 to 1 that `text` is."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not '{text}'")
    return number


def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as 90s, 30m, 2h or 1h30m stands for."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    duration = 3600 * hours + 60 * minutes + seconds
    if not duration:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 30m, 2h or 1h30m, not '{text}'")
    return float(duration)


def integer_type(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return an argparse type that accepts the integers from `low` to `high`; None sets no upper limit."""

    def parse_integer(text: str) -> int:
        too_large = high is not None and re.fullmatch(r"-?\d+", text) and int(text) > high
        if not re.fullmatch(r"-?\d+", text) or int(text) < low or too_large:
            limits = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, not '{text}'")
        return int(text)

    return parse_integer
