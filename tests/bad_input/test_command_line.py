"""Bad commands, environments and results of earlier stages.

Wrong values in recipes have their own tests (stage/test_check.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.recipes import recipe
from pipelines import finetune
from pipelines.commands.cli import call_command
from tests.bad_input import test_data, test_training
from tests.bad_input.case import ROOT, Call, Case, Setup, case_id, check_case

LENET = "pipelines/vision/dvc.yaml:fit@lenet"
METRICS = "metrics/evaluate.json"
BEST = "tune/best.json"
SECONDS = ".trainyard/seconds.json"


def command(*arguments: str, params: bool = False, versioned: bool = True, workers: str | None = None) -> Setup:
    """A command in an empty folder.

    params: with our params.yaml and dvc.yaml files; versioned: then also with a folder .dvc, for dvc without git.
    """

    def setup(folder: Path) -> Call:
        if params:
            for file in (ROOT / "params.yaml", ROOT / "dvc.yaml", *ROOT.glob("pipelines/*/dvc.yaml")):
                copy = folder / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(file.read_text())
        if params and versioned:
            (folder / ".dvc").mkdir()
            (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
        if workers is not None:
            os.environ["TRAINYARD_WORKERS"] = workers  # the fixture `empty_folder` restores it
        return lambda: call_command(list(arguments))

    return setup


def without_git(*arguments: str) -> Setup:
    """A command in a folder where dvc expects a git repository."""

    def setup(folder: Path) -> Call:
        (folder / ".dvc").mkdir()
        return command(*arguments, params=True, versioned=False)(folder)

    return setup


def without_name(*arguments: str) -> Setup:
    """A command in a folder whose params have no name."""

    def setup(folder: Path) -> Call:
        (folder / "params.yaml").write_text("seed: 0\n")
        return lambda: call_command(list(arguments))

    return setup


def read_result(file: str, content: str, *arguments: str) -> Setup:
    """A command that reads a damaged result file."""

    def setup(folder: Path) -> Call:
        (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(content)
        return lambda: call_command(list(arguments))

    return setup


def finetune_with(best: str) -> Setup:
    """The stage `finetune` after a search that wrote `best`."""

    def setup(folder: Path) -> Call:
        (folder / "tune").mkdir()
        (folder / BEST).write_text(best)
        return lambda: finetune.main(recipe.load(ROOT / "params.yaml"))

    return setup


CASES = [
    # the command line
    Case("no command", command(), "arguments are required: COMMAND; see trainyard --help"),
    Case("a command misspelt", command("rnu"), "no command 'rnu' (did you mean 'run'?)"),
    Case("an option misspelt", command("run", "--worker", "2"), "--worker (did you mean '--workers'?)"),
    Case("one argument too many", command("summary", "x"), "unrecognized arguments: x"),
    Case("a port that is none", command("ui", "--port", "99999"), "must be a whole number from 1 to 65535"),
    Case("a port in words", command("ui", "--port", "http"), "must be a whole number from 1 to 65535, not 'http'"),
    Case("pages of nothing", without_name("ui"), "params.yaml: name: must be the registered model's name"),
    Case("a model without a name", without_name("rollback"), "params.yaml: name: must be the registered model's name"),
    Case("no kill at all", command("chaos", "--kills", "0"), "must be a whole number of at least 1, not '0'"),
    Case("no such victim", command("chaos", "--victims", "wroker"), "no victim 'wroker' (did you mean 'worker'?)"),
    Case("fit without a recipe", command("fit"), "arguments are required: recipe"),
    Case("no such recipe", command("plan", "resnet.yaml"), "resnet.yaml: no such recipe"),
    Case("not in the repository", command("prepare"), "params.yaml: no such recipe; run trainyard in the root of"),
    Case("no repository of dvc's", command("run", params=True, versioned=False), ".dvc: no such folder; run trainyard"),
    Case("no repository of git's", without_git("run"), ".git: dvc needs a git repository here; git init"),
    Case("a stage misspelt", command("run", "pretain", params=True), "no stage 'pretain' (did you mean 'pretrain'?)"),
    Case("a recipe misspelt", command("run", f"{LENET}t", params=True), "'fit@lenett' (did you mean 'fit@lenet'?); it"),
    Case("no such family", command("run", "vision/dvc.yaml:fit", params=True), "no file vision/dvc.yaml (did you mean"),
    Case("augment too early", command("augment", params=True), "augment: data/prepared/source is not there; first"),
    Case("pretrain too early", command("pretrain", params=True), "pretrain: data/prepared/source is not there; first"),
    Case("tune too early", command("tune", params=True), "tune: data/prepared/target is not there; first run: train"),
    Case("finetune too early", command("finetune", params=True), "finetune: data/prepared/target is not there; first"),
    Case("evaluate too early", command("evaluate", params=True), "evaluate: data/prepared/target is not there; first"),
    Case("a summary of nothing", command("summary", params=True), "metrics/evaluate.json: does not exist yet; run"),
    # the environment
    Case("workers in words", command("run", params=True, workers="two"), "WORKERS=two: must"),
    Case("no workers", command("run", params=True, workers="0"), "of at least 1"),
    Case("a range upside down", command("run", params=True, workers="4:2"), "such as 1:4"),
    Case("workers on the line", command("run", "--workers", "1.5", params=True), "TRAINYARD_WORKERS=1.5: must be"),
    # what stages wrote
    Case("a choice that is no JSON", finetune_with('{"scratch": '), f"{BEST}: can't be read (Expecting"),
    Case("a choice for one arm", finetune_with('{"scratch": {}}'), f"{BEST}: has no 'finetuned'; run its stage again"),
    Case("metrics that are no JSON", read_result(METRICS, "{", "summary"), f"{METRICS}: can't be read"),
    Case("seconds that are no JSON", read_result(SECONDS, "{", "report"), f"{SECONDS}: can't be read (Expecting"),
    Case("metrics without a key", read_result(METRICS, "{}", "summary"), f"{METRICS}: has no 'accuracy'"),
]  # fmt: skip


def test_all_files_together_have_more_than_sixty_cases() -> None:
    cases = [*CASES, *test_data.CASES, *test_training.CASES]
    assert len({case.name for case in cases}) == len(cases) >= 60


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_bad_input_gets_one_line_and_exit_code_2(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    check_case(case, tmp_path, capsys)
