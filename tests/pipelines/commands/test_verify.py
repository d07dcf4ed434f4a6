"""The starting point and the comparison of `trainyard verify`; a complete run is in tests/test_flagship.py (slow)."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import Refusal
from components.files import bytes_digest, write_json
from components.recipes import recipe
from components.runs.description import describe_run
from components.runs.journal import STAGE_LOG, Journal
from components.tracking.registry import Registry
from pipelines.commands import verify
from pipelines.commands.verification.comparison import CLOSE, DIFFERENT, SAME, compare, print_comparison
from pipelines.commands.verification.original import Original, Outcome, find_commit
from pipelines.commands.verification.rerun import check_out
from pipelines.stage.provenance import provenance
from tests.pipelines.yard import NAME, Yard
from tests.workspace import clone

PARAMS = {"seed": 0, "fit": {"lr": 0.1, "clip": None}, "augment": [{"use": "flip", "p": 0.5}], "note": "a: b"}


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide the commit of a repository that is the test's current folder."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    Path("data/raw/mine").mkdir(parents=True)
    Path(".gitignore").write_text("data/\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command], check=True)
    Path("data/raw/mine/file").write_text("raw")
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def make_original(tags: dict[str, str], **changes: Any) -> Original:
    original = Original("yard version 3", "params.yaml", Outcome("w" * 64, "d" * 32, {}), {}, tags, {})
    return replace(original, **changes)


@pytest.mark.parametrize("changed", ["nothing", " M params.yaml\n M dvc.lock", " M metrics/evaluate.json"])
def test_a_commit_is_enough_if_its_code_was_not_changed(commit: str, changed: str) -> None:
    assert find_commit(make_original({"mlflow.source.git.commit": commit, "git.changed": changed})) == commit


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        (
            {"git.changed": "M components/training/engine.py"},
            "changes that no commit has \\(components/training/engine.py\\)",
        ),
        ({"mlflow.source.git.commit": "0" * 40}, "its commit 0{40} is not in this repository"),
        ({"mlflow.source.git.commit": ""}, "its commit \\(none recorded\\)"),
    ],
)
def test_a_version_without_its_code_is_refused(commit: str, tags: dict[str, str], says: str) -> None:
    with pytest.raises(Refusal, match=f"^yard version 3.*{says}"):
        find_commit(make_original({"mlflow.source.git.commit": commit} | tags))


@pytest.mark.parametrize("new", ["components/models/wide.py", "pipelines/vision/wide.yaml"])
def test_untracked_code_is_a_change(new: str, commit: str) -> None:
    """Untracked lock files and notes are not, nor is the recipe itself, of which the run has the params."""
    for path in (new, "pipelines/vision/dvc.lock", "notes.txt"):
        assert find_commit(make_original(provenance())) == commit
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("new")
        if path == new:
            with pytest.raises(Refusal, match=new):
                find_commit(make_original(provenance()))
            assert find_commit(make_original(provenance(), recipe=new)) == commit
            Path(path).unlink()
    Path(new).write_text("new")
    Path("params.yaml").write_text("seed: 9")
    assert provenance()["git.changed"] == f"M params.yaml\n?? {new}"


def test_the_copy_has_the_runs_params_and_the_raw_data(commit: str, tmp_path: Path) -> None:
    params: dict[str, Any] = recipe.overlay(PARAMS, {"fit.lr": 1e-05, "fit.clip": 1.0, "augment": [{"use": "crop"}]})
    params |= {"tune": {"search": {"samples": 2, "space": {"task.optimizer.lr": {"low": 0.1, "high": 1.0}}}}}
    del params["note"]
    texts = {name: str(value) for name, value in recipe.flatten(params).items()}
    (tmp_path / "params.yaml").write_text("seed: 9\n")
    place = check_out(tmp_path / "copy", commit, make_original({}, params=texts))
    assert recipe.load(place / "params.yaml") == params
    assert (place / "data/raw/mine/file").read_text() == "raw"


def test_a_checkout_in_a_sub_folder_of_its_repository_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "top" / "my projects" / "yard"
    checkout.mkdir(parents=True)
    (checkout / "params.yaml").write_text("seed: 1\n")
    (checkout / "components").mkdir()
    (checkout.parent / "neighbour.txt").write_text("1")
    monkeypatch.chdir(tmp_path / "top")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command], check=True)
    monkeypatch.chdir(checkout)
    (checkout.parent / "neighbour.txt").write_text("2")
    (checkout / "params.yaml").write_text("seed: 2\n")
    commit = find_commit(make_original(provenance()))
    place = check_out(tmp_path / "copy", commit, make_original({}, params={"seed": "3"}))
    assert place == tmp_path / "copy" / "my projects" / "yard"
    assert recipe.load(place / "params.yaml") == {"seed": 3}


def test_the_copy_has_the_models_that_the_run_read_or_is_refused(commit: str, tmp_path: Path) -> None:
    start = Path("results/bert/manual/model")
    start.mkdir(parents=True)
    (start / "weights").write_text("1")
    inputs = {"digits": "0" * 32, str(start): bytes_digest(start)[:32]}
    original = make_original({}, params={"seed": "1"}, recipe="pipelines/own/mine.yaml", inputs=inputs)
    place = check_out(tmp_path / "copy", commit, original)
    assert recipe.load(place / "pipelines/own/mine.yaml") == {"seed": 1}, "although no commit has the recipe"
    assert (place / start / "weights").read_text() == "1"
    (start / "weights").write_text("2")
    with pytest.raises(Refusal, match="its input results/bert/manual/model has changed since"):
        check_out(tmp_path / "changed", commit, original)
    shutil.rmtree(start)
    with pytest.raises(Refusal, match="its input results/bert/manual/model is not here"):
        check_out(tmp_path / "missing", commit, original)


def test_bytes_must_be_equal_where_the_environment_is_and_metrics_close_elsewhere(
    commit: str, capsys: pytest.CaptureFixture
) -> None:
    then, tags = Outcome("a" * 64, "b" * 32, {"accuracy": 0.98, "seeds": 5.0}), provenance()
    equal_outcome = Outcome("a" * 64, "b" * 32, {"accuracy": 0.98, "seeds": 5})
    equal = compare(then, equal_outcome, tags, tags, 0.02)
    assert (equal.verdict, equal.different) == (SAME, [])
    near = Outcome("c" * 64, "b" * 32, {"accuracy": 0.97, "seeds": 5})
    here = compare(then, near, tags, tags, 0.02)
    assert (here.verdict, here.different) == (DIFFERENT, ["weights", "accuracy"])
    print_comparison(here)
    assert capsys.readouterr().out.count("DIFFERENT") == 2
    differences = {"machine": "64 CPUs", "setting.TRAINYARD_THREADS": "8", "version.torch": "2.11.0"}
    for name, value in (differences | {"fit.compile": "compiled"}).items():
        elsewhere = compare(then, near, tags | {name: value}, tags, 0.02)
        assert elsewhere.verdict == CLOSE
        print_comparison(elsewhere)
        output = capsys.readouterr().out
        assert f": {value} then," in output
        assert "each metric within 0.02" in output
    other = tags | {"machine": "64 CPUs"}
    assert compare(then, near, other, tags, 0.001).verdict == DIFFERENT
    assert compare(then, replace(near, data="x"), other, tags, 0.02).verdict == DIFFERENT
    assert compare(then, replace(near, metrics={"accuracy": math.nan}), other, tags, 0.02).verdict == DIFFERENT
    undefined = replace(equal_outcome, metrics={"accuracy": float("nan"), "seeds": 5})
    undefined_then = replace(then, metrics={"accuracy": float("nan"), "seeds": 5.0})
    assert compare(undefined_then, undefined, tags, tags, 0.02).verdict == SAME
    assert compare(undefined_then, replace(undefined, weights="c" * 32), other, tags, 0.02).verdict == CLOSE
    incomplete = compare(then, replace(equal_outcome, metrics={"accuracy": 0.98}), tags, tags, 0.02)
    assert (incomplete.verdict, incomplete.different) == (DIFFERENT, ["seeds"]), "the rerun lacks a score"
    assert compare(then, replace(near, metrics={"accuracy": 0.98}), other, tags, 0.02).verdict == DIFFERENT
    old = {name: value for name, value in tags.items() if name != "machine"}
    assert compare(then, near, old, tags, 0.02).verdict == CLOSE, "an older run did not record it"


@pytest.fixture
def result(commit: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a result of a family, its run's record, and a rerun that comes to the same without training."""
    family = Path("pipelines/vision")
    family.mkdir(parents=True)
    (family / "tiny.yaml").write_text("seed: 3\n")
    folder = Path("results/vision/tiny")
    (folder / "model").mkdir(parents=True)
    (folder / "model/weights.safetensors").write_text("weights")
    write_json(folder / "metrics.json", {"accuracy": 0.9})
    run = Path(".trainyard/runs/tiny-0123456789abcdef")
    tags = provenance() | {"mlflow.source.git.commit": commit, "git.changed": "nothing"}
    describe_run(run, "tiny", "vision", params={"seed": 3}, tags=tags)
    lines = Journal(run / STAGE_LOG)
    lines.write("metric", step=0, values={"test/accuracy": 0.9})
    lines.write("tag", name="data.digest", value="d" * 64)

    def run_copy(copy: Path, original: Original) -> int:
        assert recipe.load(copy / original.recipe) == {"seed": 3}
        for place in (folder, run):
            shutil.copytree(place, copy / place)
        return 0

    monkeypatch.setattr(verify, "run_copy", run_copy)
    return folder


def test_a_result_is_verified_and_the_statement_can_be_signed_and_checked(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert verify.main(str(result), report="statement.json") == 0
    assert "\nthe same\n" in capsys.readouterr().out
    statement = json.loads(Path("statement.json").read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    digests = {entry["name"]: entry["digest"]["sha256"] for entry in statement["subject"]}
    weights = subprocess.run(
        ["sha256sum", result / "model/weights.safetensors"], capture_output=True, text=True, check=True
    )
    assert digests["model/weights.safetensors"] == weights.stdout.split()[0]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["params"] == {"seed": "3"}
    assert len(definition["resolvedDependencies"][0]["digest"]["gitCommit"]) == 40
    assert statement["predicate"]["trainyard_verdict"]["verdict"] == "the same"
    assert verify.main(check="statement.json") == 0
    assert "not signed" in capsys.readouterr().out

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"], check=True)
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", "key", "-n", "trainyard", "statement.json"]
    subprocess.run(sign, check=True, capture_output=True)
    assert verify.main(check="statement.json") == 0
    assert "owner of the key not checked" in capsys.readouterr().out
    Path("signers").write_text(f"ann@example.org {Path('key.pub').read_text()}")
    assert verify.main(check="statement.json", signers="signers") == 0
    assert 'Good "trainyard" signature for ann@example.org' in capsys.readouterr().out

    (result / "model/weights.safetensors").write_text("others")
    assert verify.main(check="statement.json", signers="signers") == 1
    assert "WRONG results/vision/tiny: model/weights.safetensors has other bytes" in capsys.readouterr().out
    (result / "model/weights.safetensors").write_text("weights")
    Path("signers").write_text(f"ann@example.org {Path('key.pub').read_text()[:-30]}\n")
    assert verify.main(check="statement.json", signers="signers") == 1
    text = Path("statement.json").read_text()
    Path("statement.json").write_text(text.replace('"accuracy"', '"accuracx"'))
    assert verify.main(check="statement.json") == 1
    assert "signature  WRONG" in capsys.readouterr().out
    for content in (
        "{}",
        "[]",
        "no",
        text.replace("gitCommit", "git"),
        text.replace('"name": "model/', '"file": "model/'),
    ):
        Path("statement.json").write_text(content)
        with pytest.raises(Refusal, match="is not a statement that verify --report wrote"):
            verify.main(check="statement.json")


def test_a_result_that_comes_out_otherwise_is_not_the_same(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    real = verify.run_copy

    def other_weights(copy: Path, original: Original) -> int:
        code = real(copy, original)
        (copy / result / "model/weights.safetensors").write_text("others")
        return code

    monkeypatch.setattr(verify, "run_copy", other_weights)
    assert verify.main(str(result), report="statement.json") == 1
    assert "\nnot the same\n" in capsys.readouterr().out
    assert verify.main(check="statement.json") == 1, "a statement about a failure proves nothing"
    write_json(result / "metrics.json", {"accuracy": 0.8})
    with pytest.raises(Refusal, match="no run of vision/tiny with the scores"):
        verify.main("pipelines/vision/tiny.yaml")


@pytest.mark.slow
def test_a_recipes_result_and_its_registered_version_are_made_again(tmp_path: Path) -> None:
    """On real data, with real workers, in a real copy."""
    changes = {"fit.epochs": 1, "data.labels": 200}
    workspace = clone(tmp_path / "yard", {"pipelines/vision/softmax.yaml": changes})
    workspace.trainyard("fit", "pipelines/vision/softmax.yaml")
    for subject in ("results/vision/softmax", "vision-softmax/1"):
        output = workspace.trainyard("verify", subject, "--report", "statement.json")
        assert re.search(r"weights +(\w{12}) +\1\n", output), output
        assert "\nthe same\n" in output
        assert "with the stated bytes" in workspace.trainyard("verify", "--check", "statement.json")


def test_a_version_has_an_origin(yard: Yard) -> None:
    digest = yard.train()
    from pipelines.commands import sync

    sync.main()
    registry = Registry(NAME)
    assert registry.newest().digest == digest
    assert registry.origin(registry.newest()).tags["trainyard.stage"] == "evaluate"


def test_without_a_version_there_is_nothing_to_verify(yard: Yard) -> None:
    with pytest.raises(Refusal, match="has no version yet"):
        verify.main()
    with pytest.raises(Refusal, match=r"results/vision/lenet/metrics\.json: not there; name a folder below results/"):
        verify.main("results/vision/lenet")


def test_a_silent_failure_of_git_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refusal, match=r"^verify: git rev-parse: exit code 7$"):
        check_out(tmp_path / "copy", "0" * 40, make_original({}))
