"""Bad input of every kind, through the front door: one line that says what, where and what to do; exit code 2.

Wrong values in recipes have a table of their own (test_check.py). What is mended instead of refused:
odd picture modes (test_image_folder.py), boxes without an area (test_bccd.py), a damaged checkpoint (test_engine.py).
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components import optimizers
from components.models.lenet import LeNet
from components.models.resnet import ResNet
from components.originals import fetch, idx
from components.recipes import recipe
from components.storage import dataset
from components.storage.feed import Feed
from components.storage.store import Column, Store
from components.tasks.classification import Classification
from components.training import checkpoint, engine, exported
from components.training.peers import Peers
from components.training.task import State
from pipelines import finetune
from pipelines.commands.cli import call_command
from pipelines.door import exit_code
from pipelines.workers import preparation, training

ROOT = Path(__file__).parent.parent
Door = Callable[[], Any]
Scene = Callable[[Path], Door]  # sets the scene in an empty folder; what then is refused


@dataclass(frozen=True)
class Case:
    name: str
    scene: Scene
    says: str
    leaves: tuple[str, ...] = ()  # patterns of files that may be written all the same: whole ones


# ------------------------------------------------------------------------------------------------ scenes


LENET = "pipelines/vision/dvc.yaml:fit@lenet"


def command(*arguments: str, params: bool = False, versioned: bool = True, workers: str | None = None) -> Scene:
    def scene(folder: Path) -> Door:
        for file in (ROOT / "params.yaml", ROOT / "dvc.yaml", *ROOT.glob("pipelines/*/dvc.yaml")) if params else ():
            copy = folder / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text())
        if params and versioned:
            (folder / ".dvc").mkdir()
            (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
        if workers is not None:
            os.environ["TRAINYARD_WORKERS"] = workers  # the fixture `here` takes it back
        return lambda: call_command(list(arguments))

    return scene


def ungit(*arguments: str) -> Scene:
    """A command in a folder that dvc was told to version with git, which is not there."""

    def scene(folder: Path) -> Door:
        (folder / ".dvc").mkdir()
        return command(*arguments, params=True, versioned=False)(folder)

    return scene


def unnamed(*arguments: str) -> Scene:
    """A command in a folder whose params have no name."""

    def scene(folder: Path) -> Door:
        (folder / "params.yaml").write_text("seed: 0\n")
        return lambda: call_command(list(arguments))

    return scene


def data(section: dict[str, Any], make: Callable[[Path], Any] = lambda folder: None) -> Scene:
    """The prepare stage's work for a recipe's section `data`, after `make(folder)`."""

    def scene(folder: Path) -> Door:
        make(folder)
        return lambda: preparation.write_data_sets(Peers(), {"out": section}) and 0

    return scene


def pictures(change: Callable[[Path], Any] = lambda folder: None, count: int = 4) -> Callable[[Path], None]:
    """A folder `pictures` of two classes, and then `change(pictures)`."""

    def make(folder: Path) -> None:
        for name in ("cat", "dog"):
            (folder / "pictures" / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "pictures" / name / f"{number}.png")
        change(folder / "pictures")

    return make


def images(change: Callable[[Path], Any] = lambda folder: None, count: int = 4, **given: Any) -> Scene:
    return data(
        {"use": "data.image_folder.ImageFolder", "folder": "pictures", "size": 8, **given}, pictures(change, count)
    )


def idx_file(content: bytes, packed: bool = True) -> Scene:
    def scene(folder: Path) -> Door:
        (folder / "a.gz").write_bytes(gzip.compress(content) if packed else content)
        return lambda: idx.read_array("a.gz")

    return scene


def drawn(columns: dict[str, Column], example: dict[str, Any], classes: list[str]) -> Scene:
    """A data set of one example, as somebody else may write one."""

    class Drawn:
        name, licence, source = "drawn", "CC0", "here"

        def parts(self) -> dict[str, int]:
            return {"train": 1}

        def examples(self, split: str, part: int) -> Iterator[dict[str, Any]]:
            yield example

    Drawn.columns, Drawn.classes = columns, classes  # type: ignore[attr-defined]
    return lambda folder: lambda: dataset.prepare_dataset(Drawn(), folder / "out")  # type: ignore[arg-type]


LABELLED = {"image": Column("uint8", (2, 2, 1)), "label": Column("int64")}
GREY = np.zeros((2, 2, 1), np.uint8)


def prepared(change: Callable[[Path], Any]) -> Scene:
    """The digits, prepared, after which `change(folder)` does harm; then they are read and checked."""

    def scene(folder: Path) -> Door:
        dataset.prepare_dataset(recipe.build({"use": "data.digits.Digits", "labels": 100, "size": 8}), folder / "data")
        change(folder / "data")
        return lambda: Store("data").verify()

    return scene


def trained(*, task: type[Classification] = Classification, **options: Any) -> Scene:
    """A small network on 100 digits."""

    def scene(folder: Path) -> Door:
        dataset.prepare_dataset(recipe.build({"use": "data.digits.Digits", "labels": 100, "size": 28}), folder / "data")
        (folder / "statistics.json").write_text(json.dumps({"mean": [0.3], "std": [0.3]}))
        built = task(LeNet, partial(optimizers.sgd, lr=0.01))
        train = Feed(Store("data").split("train"))
        spec = training.read_spec("data", ".")
        fit = {"epochs": 30, "batch": 20, "log_every": 4, "checkpoint_seconds": 1e-9} | options
        return lambda: engine.fit(built, spec, train, None, Path("run"), **fit) and 0

    return scene


class Poisoned(Classification):
    """The loss of whatever batch holds row 17 is no number, from step 50 on."""

    def loss(self, state: State, shard: Any) -> Any:
        loss, metrics = super().loss(state, shard)
        bad = state.step >= 50 and bool((shard.batch["row"] == 17).any())
        return loss * (float("nan") if bad else 1.0), metrics


def fine_tuned(change: Callable[[Path], Any]) -> Scene:
    """Classification that starts from `before`, which `change` makes."""

    def scene(folder: Path) -> Door:
        change(folder / "before")
        task = Classification(LeNet, start="before")
        return lambda: task.setup(training.Spec({"image": (28, 28, 1)}, ("a", "b"), {"mean": [0.0], "std": [1.0]}))

    return scene


def other_network(folder: Path) -> None:
    spec = training.Spec({"image": (16, 16, 1)}, ("a", "b"), {"mean": [0.0], "std": [1.0]})
    task = Classification(LeNet)
    exported.write_model(folder, task.setup(spec), spec, {"use": "tasks.classification.Classification"})


def result(file: str, content: str, *arguments: str) -> Scene:
    """A stage's file, damaged, and a command that reads it."""

    def scene(folder: Path) -> Door:
        (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(content)
        return lambda: call_command(list(arguments))

    return scene


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own at `folder`, in memory."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# ------------------------------------------------------------------------------------------------ the table

PHOTOS, DIGITS = {"use": "data.photos.Photos"}, {"use": "data.digits.Digits"}
FOLDER = {"use": "data.image_folder.ImageFolder"}
TEXT = {"use": "data.text.Text", "of": {"use": "data.manual.Manual"}}
BEGINS, HEADER = "not an idx file", b"\0\0\x08"
METRICS, BEST, SECONDS = "metrics/evaluate.json", "tune/best.json", ".trainyard/seconds.json"


def chosen(content: str) -> Scene:
    """What the search is said to have chosen, and the stage that trains with it."""

    def scene(folder: Path) -> Door:
        (folder / "tune").mkdir()
        (folder / BEST).write_text(content)
        return lambda: finetune.main(recipe.load(ROOT / "params.yaml"))

    return scene


def spoil(file: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_bytes(content)


def cut(pattern: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (file,) = folder.glob(pattern)
        file.write_bytes(file.read_bytes()[:-100])

    return change


def flip(pattern: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (file,) = folder.glob(pattern)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    return change


def half_a_picture(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cat" / "half.jpg")
    (folder / "cat" / "half.jpg").write_bytes((folder / "cat" / "half.jpg").read_bytes()[:400])


def bomb(folder: Path) -> None:
    Image.new("1", (20000, 20000)).save(folder / "cat" / "bomb.png")


def emptied(folder: Path) -> None:
    for file in (folder / "dog").iterdir():
        file.unlink()


def split_of_nothing(folder: Path) -> None:
    for split in ("train", "test", "validation"):
        (folder / split / "cat").mkdir(parents=True)
        if split != "validation":
            Image.new("L", (8, 8)).save(folder / split / "cat" / "0.png")


def strange_class(folder: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog") if split == "train" else ("cat", "cow"):
            (folder / split / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(folder / split / name / "0.png")


def fetched(folder: Path) -> Door:
    """A public address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return lambda: fetch.fetch_file("raw", "a.gz", f"http://127.0.0.1:{port}/a.gz", "0" * 32, wait_s=0)


def changed_original(folder: Path) -> Door:
    (folder / "raw").mkdir()
    (folder / "raw" / "a.txt").write_text("another text")
    return lambda: fetch.fetch_file("raw", "a.txt", "http://127.0.0.1/a.txt", "0" * 64)


CASES = [
    # the command line
    Case("no command", command(), "arguments are required: COMMAND; see trainyard --help"),
    Case("a command misspelt", command("rnu"), "no command 'rnu' (did you mean 'run'?)"),
    Case("an option misspelt", command("run", "--worker", "2"), "--worker (did you mean '--workers'?)"),
    Case("one argument too many", command("summary", "x"), "unrecognized arguments: x"),
    Case("a port that is none", command("ui", "--port", "99999"), "must be a whole number from 1 to 65535"),
    Case("a port in words", command("ui", "--port", "http"), "must be a whole number from 1 to 65535, not 'http'"),
    Case("pages of nothing", unnamed("ui"), "params.yaml: name: must be the registered model's name"),
    Case("a model without a name", unnamed("rollback"), "params.yaml: name: must be the registered model's name"),
    Case("no kill at all", command("chaos", "--kills", "0"), "must be a whole number of at least 1, not '0'"),
    Case("no such victim", command("chaos", "--victims", "wroker"), "no victim 'wroker' (did you mean 'worker'?)"),
    Case("fit without a recipe", command("fit"), "arguments are required: recipe"),
    Case("no such recipe", command("plan", "resnet.yaml"), "resnet.yaml: no such recipe"),
    Case("not in the repository", command("prepare"), "params.yaml: no such recipe; run trainyard in the root of"),
    Case("no repository of dvc's", command("run", params=True, versioned=False), ".dvc: no such folder; run trainyard"),
    Case("no repository of git's", ungit("run"), ".git: dvc needs a git repository here; git init"),
    Case("a stage misspelt", command("run", "pretain", params=True), "no stage 'pretain' (did you mean 'pretrain'?)"),
    Case("a recipe misspelt", command("run", f"{LENET}t", params=True), "'fit@lenett' (did you mean 'fit@lenet'?); it"),
    Case("no such family", command("run", "vision/dvc.yaml:fit", params=True), "no file vision/dvc.yaml (did you mean"),
    Case("augment too early", command("augment", params=True), "augment: data/prepared/source is not there; first"),
    Case("pretrain too early", command("pretrain", params=True), "pretrain: data/prepared/source is not there; first"),
    Case("tune too early", command("tune", params=True), "tune: data/prepared/target is not there; first run: train"),
    Case("finetune too early", command("finetune", params=True), "finetune: data/prepared/target is not there; first"),
    Case("evaluate too early", command("evaluate", params=True), "evaluate: data/prepared/target is not there; first"),
    Case("a summary of nothing", command("summary", params=True), "metrics/evaluate.json: not there yet; run"),
    # the environment
    Case("workers in words", command("run", params=True, workers="two"), "WORKERS=two: must"),
    Case("no workers", command("run", params=True, workers="0"), "of at least 1"),
    Case("a range upside down", command("run", params=True, workers="4:2"), "such as 1:4"),
    Case("workers on the line", command("run", "--workers", "1.5", params=True), "TRAINYARD_WORKERS=1.5: must be"),
    # a user's own pictures
    Case("no folder", data({**FOLDER, "folder": "nowhere"}), "folder: nowhere is not a folder"),
    Case("no classes", data({**FOLDER, "folder": "p"}, lambda f: (f / "p").mkdir()), "p: contains no folders"),
    Case("a class without a picture", images(emptied), "pictures/dog: no picture in this class"),
    Case("no picture inside", images(spoil("cat/x.png", b"no picture")), "cat/x.png: damaged or not a picture"),
    Case("an empty file", images(spoil("cat/x.jpg", b"")), "pictures/cat/x.jpg: damaged or not a picture"),
    Case("half a picture", images(half_a_picture), "pictures/cat/half.jpg: damaged or not a picture"),
    Case("a decompression bomb", images(bomb), "pictures/cat/bomb.png: damaged or not a picture"),
    Case(
        "pixels without a range",
        images(lambda f: Image.new("F", (8, 8)).save(f / "cat" / "x.tiff")),
        "x.tiff: its pixels are floating-point numbers without a range",
    ),
    Case("an empty test split", images(count=2, test=0.01), "test: 0.01 of 4 pictures is none"),
    Case("nothing left to train on", images(test=0.5, validation=0.5), "validation: with it nothing is left"),
    Case(
        "a class that training lacks",
        data({**FOLDER, "folder": "given", "size": 8}, lambda f: strange_class(f / "given")),
        "given/test/cow: train/ has no class of that name",
    ),
    Case(
        "a split that is given, and empty",
        data({**FOLDER, "folder": "given", "size": 8}, lambda f: split_of_nothing(f / "given")),
        "given: split 'validation' has no example; add some, or leave the split out",
    ),
    # original files
    Case("a file that was changed", changed_original, "raw/a.txt: its digest is"),
    Case("nobody to download from", fetched, "raw/a.gz: missing, and the download failed"),
    Case("a missing archive", data({"use": "data.bccd.BCCD"}), "data/raw/bccd/BCCD.tar.gz: missing"),
    Case(
        "no archive",
        data(
            {"use": "data.bccd.BCCD"},
            lambda f: [(f / "data/raw/bccd").mkdir(parents=True), spoil("data/raw/bccd/BCCD.tar.gz", b"x")(f)],
        ),
        "BCCD.tar.gz: damaged or not an archive",
    ),
    Case("a photo that is not there", data({**PHOTOS, "content": "me.jpg"}), "me.jpg: no such picture"),
    Case(
        "a photo that is none",
        data(
            {"use": "data.photos.Photos", "content": "me.jpg"},
            lambda f: [(f / "data/raw/photos").mkdir(parents=True), spoil("data/raw/photos/me.jpg", b"x")(f)],
        ),
        "me.jpg: damaged or not a picture",
    ),
    Case("an idx file of nothing", idx_file(b""), BEGINS),
    Case("another kind of file", idx_file(b"\x89PNG\r\n\x1a\n"), BEGINS),
    Case("no gzip", idx_file(HEADER, packed=False), "a.gz: damaged (Not a gzipped file"),
    Case("an idx header cut off", idx_file(HEADER + b"\2\0\0\0\1"), "a.gz: damaged (4 bytes short)"),
    Case("an idx file cut off", idx_file(HEADER + b"\1\0\0\0\3ab"), "a.gz: damaged (1 bytes short)"),
    Case("more than announced", idx_file(HEADER + b"\1\0\0\0\2abc"), "a.gz: has more than the 2 rows"),
    Case("rows of any size", idx_file(HEADER + b"\2\0\0\0\1\xff\xff\xff\xff"), "a.gz: announces rows of 4,294,967,295"),
    Case("an array of nothing", idx_file(HEADER + b"\1\0\0\0\0"), "a.gz: announces an empty array"),
    # what a data set may ask for
    Case("more labels than there are", data({**DIGITS, "labels": 5000}), "5000 of 1797 digits"),
    Case("none left to test on", data({**DIGITS, "labels": 900, "validation": 897}), "leave none to"),
    Case("a text without a start", data({**TEXT, "validation": 0.5, "test": 0.5}), "leave no text to train on"),
    Case("a window longer than the text", data({**TEXT, "limit": 200}), "too few for a window of 32 + 1"),
    Case("scenes too small", data({"use": "data.scenes.Scenes", "size": 4}), "size: digits in scenes of 4 pixels"),
    Case("scenes of too many digits", data({"use": "data.scenes.Scenes", "most": 270}), "most: there are no 270 diff"),
    Case("a style of no picture", data({**PHOTOS, "styles": []}), "styles: name at least one"),
    # a data set that somebody wrote
    Case("a label out of range", drawn(LABELLED, {"image": GREY, "label": 7}, ["a", "b"]), "labels 7 to 7, but 2"),
    Case("a label below zero", drawn(LABELLED, {"image": GREY, "label": -1}, ["a"]), "labels -1 to -1, but 1 classes"),
    Case("another shape", drawn(LABELLED, {"image": GREY[:1], "label": 0}, ["a"]), "column 'image' must be"),
    Case("a column too few", drawn(LABELLED, {"image": GREY}, ["a"]), "the data set declares image, label"),
    Case("a number for a string", drawn({"text": Column("utf8")}, {"text": 3}, []), "must be a string, not int"),
    # prepared data
    Case("no manifest", prepared(lambda f: (f / "manifest.json").unlink()), "data: contains no manifest.json"),
    Case("a manifest that is none", prepared(spoil("manifest.json", b"{")), "manifest.json: not a valid manifest"),
    Case("a part cut off", prepared(cut("train-000.arrow")), "data/train-000.arrow: "),
    Case("a flipped bit", prepared(flip("train-000.arrow")), "data/train-000.arrow: SHA-256 is"),
    Case("a part taken away", prepared(lambda f: (f / "train-000.arrow").unlink()), "this part of split"),
    # training
    Case(
        "a loss that is no number",
        trained(task=Poisoned),
        "; lower the learning rate or set fit.clip",
        ("run", "run/*", "run/*/*"),
    ),
    Case("a batch larger than the data", trained(batch=101), "fit.batch: 101 is larger than the 100 training examples"),
    Case("fewer examples than shards", trained(batch=2, shards=4), "fit.batch: 2 is smaller than fit.shards: 4"),
    Case("patience without a validation split", trained(patience=2), "need a validation split"),
    Case("a network of no stage", lambda folder: lambda: ResNet(1, (8, 8), 2, widths=[]), "model.widths: names no"),
    Case("nothing to fine-tune from", fine_tuned(lambda f: None), "task.start: no before/weights.safetensors"),
    Case("another network to start from", fine_tuned(other_network), "weights.safetensors holds another network"),
    Case("no export there", lambda folder: lambda: exported.read_model("gone"), "gone: holds no exported model"),
    # what stages wrote
    Case("a choice that is no JSON", chosen('{"scratch": '), f"{BEST}: can't be read (Expecting"),
    Case("a choice for one arm only", chosen('{"scratch": {}}'), f"{BEST}: has no 'finetuned'; run its stage again"),
    Case("metrics that are no JSON", result(METRICS, "{", "summary"), f"{METRICS}: can't be read"),
    Case("seconds that are no JSON", result(SECONDS, "{", "report"), f"{SECONDS}: can't be read (Expecting"),
    Case("metrics without a key", result(METRICS, "{}", "summary"), f"{METRICS}: has no 'accuracy'"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINYARD_WORKERS", raising=False)
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")  # whatever a case sets is taken back


def listed() -> set[Path]:
    return {path for path in Path().rglob("*") if path.is_file()}


def test_there_are_more_than_sixty() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_input_gets_one_line_and_exit_code_2(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    door, before = case.scene(tmp_path), listed()
    capsys.readouterr()
    assert exit_code(door) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("trainyard: ")
    assert told.err.count("\n") == 1, told.err
    assert case.says in told.err
    new = {path for path in listed() - before if not any(path.match(pattern) for pattern in case.leaves)}
    assert not {path for path in new if path.suffix != ".arrow" or path.name[0] == "."}, "whole parts may stay"


def test_a_loss_that_is_no_number_is_told_with_its_step_its_rows_and_the_checkpoint_before(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert exit_code(trained(task=Poisoned)(tmp_path)) == 2
    told = capsys.readouterr().err
    found = json.loads(Path("run/diverged.json").read_text())
    assert f"step {found['step']}: the loss became nan on training rows" in told
    assert 17 in found["rows"]
    assert len(found["rows"]) == 20
    order = Feed(Store("data").split("train")).order(20, 0)
    first = next(step for step in range(50, 100) if 17 in order.indices(step))
    assert found["step"] == first + 1, "the very step, though the journal has a line for each four alone"
    kept = checkpoint.list_checkpoints(Path("run"))[0]
    assert str(kept) in told
    assert found["step"] - 4 <= checkpoint.read_checkpoint(kept)[1]["step"] < found["step"]


# ------------------------------------------------------------------------------------------------ the machine


def state(size: int) -> State:
    net = torch.nn.Linear(size, 256)
    return State({"net": net}, optimizers={"net": torch.optim.SGD(net.parameters(), lr=0.1)})


def test_a_disk_too_small_is_refused_before_work_starts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with mounted(tmp_path / "run", "size=256k"):
        assert exit_code(trained(epochs=1)(tmp_path)) == 2
        told = capsys.readouterr().err
        assert "run: 0 MB free, but checkpoints may need" in told
        assert told.count("\n") == 1
        assert not list(Path("run").iterdir())


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with mounted(tmp_path / "run", "size=2m"):
        folder = Path("run")
        checkpoint.write_checkpoint(folder, state(512), {})
        later = state(1600)  # with the first one, more than there is
        later.step = 1
        assert exit_code(lambda: checkpoint.write_checkpoint(folder, later, {})) == 2
        told = capsys.readouterr().err
        assert "run/checkpoint-00000001: the disk is full; make room" in told
        assert told.count("\n") == 1
        assert [path.name for path in folder.iterdir()] == ["checkpoint-00000000"]
        assert checkpoint.load_latest(folder) is not None


class Filling(Classification):
    """Somebody else fills the disk at step 10."""

    def loss(self, state: State, shard: Any) -> Any:
        if state.step == 10:
            with Path("run/filler").open("ab") as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
                    file.flush()
        return super().loss(state, shard)


def test_a_run_whose_disk_fills_up_goes_on_when_there_is_room(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train = trained(epochs=4)(tmp_path)
    assert exit_code(train) == 0
    whole = checkpoint.list_checkpoints(Path("run"))[0].joinpath("state.safetensors").read_bytes()
    shutil.rmtree("run")
    with mounted(tmp_path / "run", "size=4m"):
        assert exit_code(trained(task=Filling, epochs=4)(tmp_path)) == 2
        told = capsys.readouterr().err
        assert "the disk is full; make room" in told
        assert told.count("\n") == 1
        kept = checkpoint.load_latest(Path("run"))
        assert kept is not None
        assert kept[1]["step"] == 10
        Path("run/filler").unlink()
        assert exit_code(train) == 0
        assert checkpoint.list_checkpoints(Path("run"))[0].joinpath("state.safetensors").read_bytes() == whole


def test_a_read_only_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with mounted(tmp_path / "out", "ro"):
        section = {"use": "data.digits.Digits", "labels": 100, "size": 8}
        assert exit_code(lambda: preparation.write_data_sets(Peers(), {"out": section}) and 0) == 2
        told = capsys.readouterr().err
        assert "the disk is read-only; work in a folder that can be written" in told
        assert told.count("\n") == 1


def test_a_file_that_may_not_grow_is_refused_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """In a process of its own: the limit can't be taken back."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "from pipelines.door import exit_code; from pipelines.workers import preparation\n"
        "from components.training.peers import Peers\n"
        "section = {'use': 'data.digits.Digits', 'labels': 100, 'size': 8}\n"
        "sys.exit(exit_code(lambda: preparation.write_data_sets(Peers(), {'out': section}) and 0))"
    )
    command, environment = [sys.executable, "-B", "-c", code], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert "a file may not grow so large here" in done.stderr
    assert not list(Path("out").glob("*")), "no half of a part"
