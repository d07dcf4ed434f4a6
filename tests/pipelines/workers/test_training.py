"""Check what workers do: the fits of a stage shared among them, a trial on its fold, one recipe from data to scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.errors import Refusal, Stopped
from components.files import path_digest
from components.recipes import recipe
from components.runs.journal import STOP
from components.search.objective import Rung
from components.storage.feed import Feed
from components.storage.moments import compute_moments
from components.storage.order import stratified_folds
from components.storage.store import Store
from components.training import checkpoint, engine, evaluation
from components.training.peers import Peers, fork_workers
from components.training.task import Task
from pipelines import fit
from pipelines.stage import diagnoses
from pipelines.workers import augmentation, scoring, training
from pipelines.workers.records import FitJob, TrialSetup
from pipelines.workers.rungs import score_fold

ROOT = Path(__file__).parents[3]
SECTION: dict[str, Any] = {
    "task": {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.softmax.Softmax"},
        "optimizer": {"use": "optimizers.sgd", "lr": 0.5},
    },
    "fit": {"epochs": 20, "batch": 20, "shards": 2},
}


def prepare_digits(folder: Path, **arguments: Any) -> dict[str, str]:
    """Prepare 100 digits below `folder`; return the paths that the worker functions take."""
    section = {"use": "data.digits.Digits", "labels": 100, "size": 8, **arguments}
    training.prepare_data(Peers(), section, str(folder), SECTION["task"])
    return {"prepared": str(folder / "prepared"), "augmented": str(folder / "augmented")}


def run_trial(paths: dict[str, str], **fit: Any) -> dict[str, float]:
    section = {**SECTION, "fit": SECTION["fit"] | fit}
    return score_fold(Rung({}, 1), TrialSetup(section, **paths, seed=0), count=4)


def test_data_without_what_the_task_scores_are_refused_before_training(tmp_path: Path) -> None:
    section = {"use": "data.digits.Digits", "labels": 100, "size": 8}
    task = recipe.load(ROOT / "pipelines/segmentation/fcn.yaml")["task"]
    with pytest.raises(Refusal, match=r"Segmentation needs a column 'mask', but the data have .*; set masks: true"):
        training.prepare_data(Peers(), section, str(tmp_path), task)


def make_jobs(folder: Path, count: int) -> list[FitJob]:
    return [
        FitJob(SECTION, run=str(folder / f"run-{seed}"), out=str(folder / f"model-{seed}"), seed=seed)
        for seed in range(count)
    ]


def train_and_note(peers: Peers, folder: Path, count: int, paths: dict[str, str]) -> None:
    """Run the jobs on a worker; write the scores that it returns, or that it was stopped, into a file per rank."""
    note = folder / f"note-{peers.rank}"
    folder.mkdir(exist_ok=True)
    try:
        note.write_text(json.dumps(training.train_all(peers, make_jobs(folder, count), **paths)))
    except Stopped:
        note.write_text("stopped")


def read_models(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("model-*/*"))}


def test_fits_of_a_stage_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    """Five jobs of two shards: two workers run two jobs each and one together; of three workers, two run two jobs."""
    paths = prepare_digits(tmp_path, validation=200)
    for workers in (1, 2, 3):
        fork_workers(train_and_note, workers, tmp_path / str(workers), 5, paths)
    expected = read_models(tmp_path / "1")
    assert len(expected) == 15
    note = (tmp_path / "1" / "note-0").read_text()
    assert len({score["loss"] for score in json.loads(note)}) == 5
    for workers in (2, 3):
        assert read_models(tmp_path / str(workers)) == expected
        assert {file.read_text() for file in (tmp_path / str(workers)).glob("note-*")} == {note}


def test_stopped_workers_wait_until_all_have_saved_and_can_be_resumed(tmp_path: Path) -> None:
    paths = prepare_digits(tmp_path)
    fork_workers(train_and_note, 1, tmp_path / "undisturbed", 4, paths)
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / STOP).touch()
    fork_workers(train_and_note, 2, stopped, 4, paths)
    assert [(stopped / f"note-{rank}").read_text() for rank in (0, 1)] == ["stopped"] * 2
    saved = [bool(checkpoint.list_checkpoints(stopped / f"run-{seed}")) for seed in range(4)]
    assert saved == [True, True, False, False]
    (stopped / STOP).unlink()
    fork_workers(train_and_note, 1, stopped, 4, paths)
    assert read_models(stopped) == read_models(tmp_path / "undisturbed")


@pytest.mark.parametrize("validation", [0, 200])
def test_early_stopping_watches_other_examples_than_the_fold_that_judges(validation: int, tmp_path: Path) -> None:
    """Early stopping watches a part of the fold's own training rows if there is no validation split."""
    paths = prepare_digits(tmp_path, validation=validation)
    scores = run_trial(paths, patience=2)
    store = Store(paths["prepared"])
    labels = store.split("train").array("label")
    rows, held_out = stratified_folds(labels, 4, 0)[1]
    judge = Feed(store.split("train"), held_out)
    if validation:
        watched = Feed(store.split("validation"))
    else:
        own_rows, watched_rows = stratified_folds(labels[rows], 4, 0)[-1]
        watched = Feed(store.split("train"), rows[watched_rows])
        rows = rows[own_rows]
    train = Feed(store.split("train"), rows)
    moments = compute_moments(train.split, 0, 1, rows).finish()
    task, spec = recipe.build(SECTION["task"], Task), replace(training.read_spec(**paths), statistics=moments)
    outcome = engine.fit(task, spec, train, watched, seed=0, patience=2, **SECTION["fit"])
    expected = evaluation.evaluate(task, outcome.state, judge)[0]
    assert {name: scores[name] for name in expected} == expected
    assert scores["epochs"] == outcome.epochs < 20
    unstopped = run_trial(paths)
    assert unstopped["train_loss"] < scores["train_loss"]
    assert "epochs" not in unstopped


def test_noise_scale_is_reported_where_it_is_asked_for(tmp_path: Path) -> None:
    paths = prepare_digits(tmp_path)
    plain, measured = run_trial(paths), run_trial(paths, noise_scale=True)
    assert 0 < measured.pop("noise_scale") < 1000
    assert measured == plain


def test_changed_pictures_of_the_user_are_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture is added, replaced or renamed; a data set that wraps the folder notices, too."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/raw/mine"
    for label, lowest in (("cat", 0), ("dog", 128)):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((8, 8), lowest + 20 * number, np.uint8)).save(folder / label / f"{number}.png")
    mine: dict[str, Any] = {"use": "data.image_folder.ImageFolder", "folder": "data/raw/mine", "size": 8}
    wrapped = {"use": "data.proposals.SelectiveSearch", "of": mine}
    places, digests = [], []
    for change in (
        lambda: None,
        lambda: Image.fromarray(np.full((8, 8), 7, np.uint8)).save(folder / "cat/new.png"),
        lambda: (folder / "cat/1.png").write_bytes((folder / "cat/2.png").read_bytes()),
        lambda: (folder / "cat/3.png").rename(folder / "dog/9.png"),
    ):
        change()
        places.append(fit.locate_prepared(mine)[0])
        assert fit.locate_prepared(mine) == (places[-1], ["data/raw/mine"])
        assert fit.locate_prepared(wrapped)[1] == ["data/raw/mine"]
        digests.append(path_digest("data/raw/mine"))
        training.prepare_data(Peers(), mine, str(places[-1]), SECTION["task"])
    assert len(set(places)) == len(set(digests)) == 4
    manifests = [Store(place / "prepared").manifest["splits"] for place in places]
    assert [sum(facts["rows"] for facts in splits.values()) for splits in manifests] == [10, 11, 11, 11]


def test_only_files_of_the_user_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fit.locate_prepared({"use": "data.photos.Photos"})[1] == []
    (tmp_path / "data/raw/photos").mkdir(parents=True)
    (tmp_path / "data/raw/photos/me.jpg").write_bytes(b"a")
    section = {"use": "data.photos.Photos", "content": "me.jpg"}
    assert fit.locate_prepared(section)[1] == ["data/raw/photos/me.jpg"]


def test_damaged_prepared_data_are_refused(tmp_path: Path) -> None:
    paths = prepare_digits(tmp_path)
    file = Path(paths["prepared"]) / "train-000.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(Refusal, match=r"SHA-256 is .* prepare it again"):
        prepare_digits(tmp_path)


def test_every_fit_of_a_stage_gets_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage that trains judges by the validation split, the stage that scores by the test split."""
    monkeypatch.chdir(tmp_path)
    paths = prepare_digits(tmp_path / "data", labels=20, validation=200)
    trained = training.train_and_examine(Peers(), FitJob(SECTION, run="run", out="model", seed=0), **paths)
    (scored,) = scoring.score_models(Peers(), ["model"], paths["prepared"], "test")
    assert trained.scores.keys() == {"validation", "train"}
    assert scored.scores == scored.measurements.scores["test"]
    assert trained.scores["train"] == scored.measurements.scores["train"]
    place = Path(".trainyard/runs/evaluate-1/fits/finetuned-0")
    verdict = diagnoses.write_verdict(place, "finetuned 0", scored.measurements)
    assert verdict.verdict == "over-fitting", "20 labels"
    verdict = diagnoses.write_verdict(Path(".trainyard/runs/pretrain-1"), "pretrain", trained)
    assert verdict.verdict == "over-fitting"
    assert [(line["run"], line["verdict"]) for line in diagnoses.read_verdicts()] == [
        ("finetuned 0", "over-fitting"),
        ("pretrain", "over-fitting"),
    ]


def test_fit_draws_what_augmentation_does_to_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drawing does not change the trained weights."""
    monkeypatch.chdir(tmp_path)
    flip = {"use": "augment.flip.RandomHorizontalFlip", "probability": 1.0}
    data = {"use": "data.digits.Digits", "labels": 100, "size": 8}
    weights = {}
    for name, changes in {
        "plain": {"augment": [], "mix": None},
        "flipped": {"augment": [flip]},
        "mixed": {"mix": {"use": "augment.mix.MixUp"}},
        "undrawn": {"augment": [flip]},
    }.items():
        if name == "undrawn":
            monkeypatch.setattr(training, "draw_augmented", lambda *arguments: [])
        section = {"task": SECTION["task"] | changes, "fit": SECTION["fit"] | {"epochs": 1}}
        job = FitJob(section, run=f"{name}/run", out=f"{name}/model", seed=3)
        result = training.fit_and_score(Peers(), data, "data", job)
        drawn = f"{name}/pictures/augmented.png"
        assert (drawn in result.pictures) == Path(drawn).is_file() == (name in ("flipped", "mixed"))
        weights[name] = {file.name: file.read_bytes() for file in Path(name, "model").iterdir()}
    assert weights["undrawn"] == weights["flipped"]
    assert weights["plain"] != weights["flipped"]
    augmentation.write_preview(Store("data/prepared"), Path("expected.png"), [flip], 3)
    assert Path("expected.png").read_bytes() == Path("flipped/pictures/augmented.png").read_bytes()
