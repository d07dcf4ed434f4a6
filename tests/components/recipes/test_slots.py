"""A slot of a recipe, or of an exported model, takes classes of its own rooms; nothing else is called."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import Refusal
from components.recipes import allowed, recipe, signature, slots
from components.storage.dataset import Dataset
from components.training import exported
from components.training.task import Task

DIGITS = {"use": "data.digits.Digits"}
MLP = {"use": "models.mlp.MLP"}
CLASSIFIER: dict[str, Any] = {"use": "tasks.classification.Classification", "model": MLP}
CANARY = "canary"
ATTACKS = [  # callables of the project that write a file, start a process or read a secret
    {"use": "runs.journal.Journal", "path": CANARY},
    {"use": "originals.fetch.fetch_file", "raw": ".", "name": CANARY, "original": None},
    {"use": "cluster.driver_folder.enter_folder", "driver": CANARY},
    {"use": "cluster.jobs.submit_job"},
    {"use": "files.write_json", "path": CANARY, "value": 1},
    {"use": "recipes.allowed.replace_packages", "names": CANARY},
    {"use": "training.exported.read_model", "folder": "."},
    {"use": "verdicts.alerts.Alerts", "command": ["touch", CANARY]},
]
SLOTS = ["data", "data.of", "task", "task.model", "task.optimizer", "task.augment", "task.mix"]


def place(section: dict[str, Any], slot: str) -> tuple[dict[str, Any], type]:
    """Return a section of a recipe that has `section` in a slot, and the kind of the outer one."""
    if slot in ("data", "task"):
        return section, Dataset if slot == "data" else Task
    if slot == "data.of":
        return {"use": "data.text.Text", "of": section}, Dataset
    part = slot.partition(".")[2]
    return CLASSIFIER | {part: [section] if part == "augment" else section}, Task


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack["use"])
def test_nothing_outside_the_rooms_is_called(attack: dict, slot: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    section, kind = place(attack, slot)
    with pytest.raises(Refusal, match=r"use: '.*' is not an? .*; name one of components/") as refused:
        recipe.build(section, kind)
    assert "\n" not in str(refused.value)
    with pytest.raises(Refusal, match=r"is not an? "):
        recipe.check_use(section, "recipe", kind.__name__)
    assert not Path(CANARY).exists()
    assert CANARY not in allowed.PACKAGES


@pytest.mark.parametrize(
    ("slot", "use", "message"),
    [
        ("data", "models.mlp.MLP", "'models.mlp.MLP' is not a data set; name one of components/data"),
        ("data", "data.proposals.Search", "is not a data set"),
        ("data", "data.digits.resize_digits", "is not a data set"),
        ("data", "data.digits.Digit", "did you mean 'Digits'"),
        ("task", "data.digits.Digits", "is not a task; name one of components/tasks"),
        ("task", "tasks.translation.Sample", "is not a task"),
        ("task", "tasks.style_transfer.Canvas", "is not a task"),
        ("task", "models.lenet.Classificaton", "did you mean"),
        ("task.model", "models.lenett.LeNet", "did you mean 'models.lenet'"),
        ("task.model", "tasks.classification.Classification", "is not a model"),
        ("task.model", "optimizers.sgd", "is not a model"),
        ("task.model", "layers.initial.scale_widths", "is not a model"),
        ("task.model", "models.pretrained.load_file", "defines no 'load_file'"),
        ("task.model", "models._hidden.Net", "private"),
        ("task.optimizer", "models.mlp.MLP", "is not an optimiser"),
        ("task.optimizer", "schedules.cosine", "is not an optimiser"),
        ("task.optimizer", "optimizers.optim", "defines no 'optim'"),
        ("task.augment", "augment.affine.Amounts", "is not a transform"),
        ("task.augment", "augment.flip.RandomHorizontalFlp", "did you mean 'RandomHorizontalFlip'"),
        ("task.mix", "augment.mix.mix_pairs", "is not a transform"),
        ("data.of", "data.digits.Digits", "is not a Source"),
    ],
)
def test_a_slot_takes_classes_of_its_kind(slot: str, use: str, message: str) -> None:
    if "Classificaton" in use:
        use = "tasks.classification.Classificaton"
    with pytest.raises(Refusal) as refused:
        recipe.build(*place({"use": use}, slot))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_same_sections_with_their_own_classes_are_built() -> None:
    task = recipe.build(
        CLASSIFIER
        | {"optimizer": {"use": "optimizers.adam"}, "augment": [{"use": "augment.flip.RandomHorizontalFlip"}]}
        | {"mix": {"use": "augment.mix.MixUp"}},
        Task,
    )
    assert type(task.augment[0]).__name__ == "RandomHorizontalFlip"
    recipe.build({"use": "data.text.Text", "of": {"use": "data.manual.Manual"}}, Dataset)
    schedule = recipe.resolve_arguments({"schedule": {"use": "schedules.cosine"}}, "training.engine.fit")["schedule"]
    assert schedule(0, 10) == 1
    with pytest.raises(Refusal, match="is not a schedule"):
        recipe.resolve_arguments({"schedule": {"use": "optimizers.sgd"}}, "training.engine.fit")


@pytest.mark.parametrize("attack", [*ATTACKS, DIGITS, MLP, {"use": "tasks.classification.Task"}], ids=str)
@pytest.mark.parametrize("inside", [False, True])
def test_a_models_record_is_checked_before_it_is_built(attack: dict, inside: bool, tmp_path: Path, monkeypatch) -> None:
    if inside and attack is MLP:
        return
    monkeypatch.chdir(tmp_path)
    task = CLASSIFIER | {"model": attack} if inside else attack
    record = {"task": task, "columns": {}, "classes": [], "statistics": {}, "step": 0}
    Path("model.json").write_text(json.dumps(record))
    with pytest.raises(Refusal, match="use: "):
        exported.read_model(".")
    assert not Path(CANARY).exists()


BARE = '{"task": {"use": 1}, "columns": {}, "classes": [], "statistics": {}, "step": 0}'


@pytest.mark.parametrize("text", ["{", "[]", "{}", BARE])
def test_an_invalid_record_of_a_model_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(Refusal, match="damaged"):
        exported.read_model(tmp_path)


LAB = """
from os import system
from torch import nn
from components.training.task import Task
def make(**arguments): open("canary", "w")
class Net(nn.Module): pass
class Mine(Task): pass
class Thing:
    def __init__(self, **arguments): open("canary", "w")
"""


@pytest.mark.parametrize(
    ("slot", "name", "fits"),
    [
        ("task.model", "Net", True),
        ("task", "Mine", True),
        ("task.optimizer", "make", True),
        ("task", "Net", False),
        ("task", "Thing", False),
        ("task", "make", False),
        ("data", "Thing", False),
        ("task.model", "Thing", False),
        ("task.model", "Mine", False),
        ("task.model", "make", False),
        ("task.optimizer", "Thing", False),
        ("task.optimizer", "system", False),
        ("task.augment", "Thing", False),
    ],
)
def test_classes_of_allowed_packages_must_be_of_the_kind_too(slot, name, fits, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "slotlab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(allowed, "PACKAGES", {"slotlab"})
    section, kind = place({"use": f"slotlab.{name}"}, slot)
    if fits:
        recipe.build(section, kind)
    else:
        with pytest.raises(Refusal, match=r"is not an? |defines no"):
            recipe.build(section, kind)
    assert not Path(CANARY).exists()


def test_all_public_classes_of_the_rooms_are_of_a_kind_or_refused_by_plan() -> None:
    """The sources and the classes themselves give the same answer."""
    checked = 0
    for kind, base in (("Task", Task), ("Dataset", Dataset)):
        for file in sorted((allowed.ROOT / slots.ROOMS[kind][0]).glob("[!_]*.py")):
            module = f"{slots.ROOMS[kind][0]}.{file.stem}"
            for name, item in vars(allowed.import_module(module)).items():
                if inspect.isclass(item) and item.__module__.endswith(module) and name[0] != "_":
                    checked += 1
                    assert refuses(slots.check_source, f"{module}.{name}", kind) == refuses(
                        slots.check_object, item, f"{module}.{name}", kind, base
                    )
    assert checked > 30


def refuses(check, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except Refusal:
        return True
    return False


def test_old_paths_fit_into_their_slots() -> None:
    paths = json.loads((Path(__file__).parents[2] / "data/paths-before-the-move.json").read_text())
    kinds = {room: kind for kind, rooms in slots.ROOMS.items() for room in rooms} | {"data": "", "augment": "Transform"}
    for path in paths:
        slots.check_source(path, kinds[path.partition(".")[0]])
        signature.read_signature(path)
