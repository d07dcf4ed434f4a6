"""What workers do: a stage's fits, shared out among them; a trial of a search on its fold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components import files
from components.errors import Refusal, Stopped
from components.recipes import recipe
from components.runs.journal import STOP
from components.search.objective import Rung, TrialSetup
from components.storage.feed import Feed
from components.storage.order import stratified_folds
from components.storage.store import Store
from components.training import checkpoint, engine
from components.training.peers import Peers, fork_workers
from pipelines import augment, fit
from pipelines.stage import diagnoses
from pipelines.workers import training
from pipelines.workers.rungs import score_fold

SECTION: dict[str, Any] = {
    "task": {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.softmax.Softmax"},
        "optimizer": {"use": "optimizers.sgd", "lr": 0.5},
    },
    "fit": {"epochs": 20, "batch": 20, "shards": 2},
}


def prepared(folder: Path, **data: Any) -> dict[str, str]:
    section = {"use": "data.digits.Digits", "labels": 100, "size": 8, **data}
    training.prepare_data(Peers(), section, str(folder), SECTION["task"])
    return {"prepared": str(folder / "prepared"), "augmented": str(folder / "augmented")}


def trial(paths: dict[str, str], **fit: Any) -> dict[str, float]:
    section = {**SECTION, "fit": SECTION["fit"] | fit}
    return score_fold(Rung({}, 1), TrialSetup(section, **paths, seed=0), count=4)


def fits(folder: Path, count: int) -> list[dict[str, Any]]:
    return [
        {"section": SECTION, "run": str(folder / f"run-{seed}"), "out": str(folder / f"model-{seed}"), "seed": seed}
        for seed in range(count)
    ]


def shared_out(peers: Peers, folder: Path, count: int, paths: dict[str, str]) -> None:
    """On a worker: all of them; what it heard of their scores, or that it was stopped, is noted."""
    note = folder / f"heard-{peers.rank}"
    folder.mkdir(exist_ok=True)
    try:
        note.write_text(json.dumps(training.train_all(peers, fits(folder, count), **paths)))
    except Stopped:
        note.write_text("stopped")


def written(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("model-*/*"))}


def test_the_fits_of_a_stage_are_the_same_however_they_are_shared_out(tmp_path: Path) -> None:
    """Five of two shards each: on two workers four whole ones and one together, on three two of them do two."""
    paths = prepared(tmp_path, validation=200)
    for workers in (1, 2, 3):
        fork_workers(shared_out, workers, tmp_path / str(workers), 5, paths)
    alone = written(tmp_path / "1")
    assert len(alone) == 10
    heard = (tmp_path / "1" / "heard-0").read_text()
    assert len({score["loss"] for score in json.loads(heard)}) == 5
    for workers in (2, 3):
        assert written(tmp_path / str(workers)) == alone
        assert {note.read_text() for note in (tmp_path / str(workers)).glob("heard-*")} == {heard}


def test_who_is_stopped_waits_until_the_others_have_saved_and_all_goes_on(tmp_path: Path) -> None:
    paths = prepared(tmp_path)
    fork_workers(shared_out, 1, tmp_path / "whole", 4, paths)
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / STOP).touch()
    fork_workers(shared_out, 2, stopped, 4, paths)
    assert [(stopped / f"heard-{rank}").read_text() for rank in (0, 1)] == ["stopped"] * 2
    assert [bool(checkpoint.list_checkpoints(stopped / f"run-{seed}")) for seed in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    (stopped / STOP).unlink()
    fork_workers(shared_out, 1, stopped, 4, paths)
    assert written(stopped) == written(tmp_path / "whole")


@pytest.mark.parametrize("validation", [0, 200])
def test_early_stopping_watches_the_validation_split_and_the_fold_judges(validation: int, tmp_path: Path) -> None:
    """Without such a split the fold is both."""
    paths = prepared(tmp_path, validation=validation)
    told = trial(paths, patience=2)
    store = Store(paths["prepared"])
    rows, held_out = stratified_folds(store.split("train").array("label"), 4, 0)[1]
    fold = Feed(store.split("train"), held_out)
    watched = Feed(store.split("validation")) if validation else fold
    task, spec = recipe.build(SECTION["task"]), training.read_spec(**paths)
    train = Feed(store.split("train"), rows)
    outcome = engine.fit(task, spec, train, watched, seed=0, patience=2, **SECTION["fit"])
    expected = engine.evaluate(task, outcome.state, fold)[0]
    assert {name: told[name] for name in expected} == expected
    assert told["epochs"] == outcome.epochs < 20
    whole = trial(paths)
    assert whole["train_loss"] < told["train_loss"]
    assert "epochs" not in whole


def test_the_noise_scale_is_told_where_it_was_asked_for(tmp_path: Path) -> None:
    paths = prepared(tmp_path)
    plain, heard = trial(paths), trial(paths, noise_scale=True)
    assert 0 < heard.pop("noise_scale") < 1000
    assert heard == plain


def test_a_changed_picture_of_ones_own_is_prepared_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added, replaced or renamed, also below a set that wraps it; a known file cannot change."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/raw/mine"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(folder / label / f"{number}.png")
    mine: dict[str, Any] = {"use": "data.image_folder.ImageFolder", "folder": "data/raw/mine", "size": 8}
    section = {"use": "data.proposals.SelectiveSearch", "of": mine}
    places, inputs = [], []
    for change in (
        lambda: None,
        lambda: Image.fromarray(np.full((8, 8), 7, np.uint8)).save(folder / "cat/new.png"),
        lambda: (folder / "cat/1.png").write_bytes((folder / "cat/2.png").read_bytes()),
        lambda: (folder / "cat/3.png").rename(folder / "dog/9.png"),
    ):
        change()
        places.append(fit.locate_prepared(mine)[0])
        assert fit.locate_prepared(mine) == (places[-1], ["data/raw/mine"])
        assert fit.locate_prepared(section)[1] == ["data/raw/mine"]
        inputs.append(files.path_digest("data/raw/mine"))
        training.prepare_data(Peers(), mine, str(places[-1]), SECTION["task"])
    assert len(set(places)) == len(set(inputs)) == 4
    rows = [{s: v["rows"] for s, v in Store(at / "prepared").manifest["splits"].items()} for at in places]
    assert rows == [{"train": 8, "test": 2}, *[{"train": 9, "test": 2}] * 3]
    assert fit.locate_prepared({"use": "data.photos.Photos"})[1] == []
    (tmp_path / "data/raw/photos").mkdir()
    (tmp_path / "data/raw/photos/me.jpg").write_bytes(b"a")
    assert fit.locate_prepared({"use": "data.photos.Photos", "content": "me.jpg"})[1] == ["data/raw/photos/me.jpg"]


def test_prepared_data_that_were_damaged_are_refused(tmp_path: Path) -> None:
    paths = prepared(tmp_path)
    file = Path(paths["prepared"]) / "train-000.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(Refusal, match=r"SHA-256 is .* prepare it again"):
        prepared(tmp_path)


def test_every_fit_of_a_stage_leaves_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage that trains has the validation split to judge by, the one that scores the test split."""
    monkeypatch.chdir(tmp_path)
    paths = prepared(tmp_path / "data", labels=20, validation=200)
    only = {"section": SECTION, "run": "run", "out": "model", "seed": 0}
    trained = training.train_and_examine(Peers(), only, **paths)
    assert trained["scores"] == trained["seen"]["validation"]
    ((scores, _, scored),) = training.score_models(Peers(), ["model"], paths["prepared"], "test")
    assert scores == scored["seen"]["test"]
    assert trained["seen"]["train"] == scored["seen"]["train"]
    found = diagnoses.write_verdict(Path(".trainyard/runs/evaluate-1/fits/finetuned-0"), "finetuned 0", scored)
    assert found.verdict == "over-fitting", "20 labels"
    assert diagnoses.write_verdict(Path(".trainyard/runs/pretrain-1"), "pretrain", trained).verdict == "over-fitting"
    assert [(one["run"], one["verdict"]) for one in diagnoses.read_verdicts()] == [
        ("finetuned 0", "over-fitting"),
        ("pretrain", "over-fitting"),
    ]


def test_a_fit_draws_what_its_augmentation_makes_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the search's choice, if there was one; no trained byte is another for it."""
    monkeypatch.chdir(tmp_path)
    flip = {"use": "augment.flip.RandomHorizontalFlip", "probability": 1.0}
    data = {"use": "data.digits.Digits", "labels": 100, "size": 8}
    weights = {}
    for name, more in {
        "plain": {"augment": [], "mix": None},
        "flipped": {"augment": [flip]},
        "mixed": {"mix": {"use": "augment.mix.MixUp"}},
        "undrawn": {"augment": [flip]},
    }.items():
        if name == "undrawn":
            monkeypatch.setattr(training, "draw_augmented", lambda *given: [])
        section = {"task": SECTION["task"] | more, "fit": SECTION["fit"] | {"epochs": 1}}
        fit = {"section": section, "run": f"{name}/run", "out": f"{name}/model", "seed": 3}
        pictures = training.fit_and_score(Peers(), data, "data", fit)["pictures"]
        drawn = f"{name}/pictures/augmented.png"
        assert (drawn in pictures) == Path(drawn).is_file() == (name in ("flipped", "mixed"))
        weights[name] = {file.name: file.read_bytes() for file in Path(name, "model").iterdir()}
    assert weights["undrawn"] == weights["flipped"]
    assert weights["plain"] != weights["flipped"]
    augment.draw_preview(Store("data/prepared"), Path("expected.png"), [flip], 3)
    assert Path("expected.png").read_bytes() == Path("flipped/pictures/augmented.png").read_bytes()
