"""A model read from a folder predicts as the one that was written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.errors import Refusal
from components.recipes import recipe
from components.storage.content import CONTENTS_FILE, read_digests
from components.training import exported
from components.training.task import Spec, State, Task

SECTION = {
    "use": "tasks.classification.Classification",
    "model": {"use": "models.resnet.ResNet", "widths": [4, 8], "blocks": 1, "stem": "cifar"},
    "start": "models/pretrain",
}
SPEC = Spec({"image": (8, 8, 1), "label": ()}, ("a", "b", "c"), {"mean": [0.4], "std": [0.2]})


def state(seed: int) -> tuple[State, dict]:
    torch.manual_seed(seed)
    task = recipe.build({key: value for key, value in SECTION.items() if key != "start"}, Task)
    built = task.setup(SPEC)
    images = torch.randint(0, 256, (6, 8, 8, 1), dtype=torch.uint8)
    built.modules["net"](task.pixels({"image": images}))  # moves the batch statistics
    built.modules["net"].eval()
    return built, task.predict(built, {"image": images}) | {"image": images}


def test_a_model_predicts_as_before_and_needs_no_other_folder(tmp_path: Path) -> None:
    original, expected = state(0)
    exported.write_model(tmp_path, original, SPEC, SECTION)
    task, restored = exported.read_model(tmp_path)
    restored_predictions = task.predict(restored, {"image": expected["image"]})
    assert torch.equal(restored_predictions["probability"], expected["probability"])
    assert exported.class_names(tmp_path) == ["a", "b", "c"]
    record = json.loads((tmp_path / "model.json").read_text())
    assert "start" not in record["task"]
    assert record["parameters"] == sum(p.numel() for p in original.modules["net"].parameters())


def test_a_model_records_what_it_and_its_start_were_trained_on(tmp_path: Path) -> None:
    original, _ = state(0)
    largest = 2**64 - 1
    pretrained, finetuned = tmp_path / "pretrained", tmp_path / "finetuned"
    exported.write_model(pretrained, original, SPEC, {"use": "x"}, np.array([largest, 5, 5], np.uint64))
    exported.write_model(finetuned, original, SPEC, {"use": "x", "start": str(pretrained)}, np.array([7], np.uint64))
    record = read_digests(finetuned / CONTENTS_FILE)
    assert record.dtype == np.uint64
    assert record.tolist() == [5, 7, largest]
    exported.write_model(tmp_path / "old", original, SPEC, {"use": "x"})
    assert read_digests(tmp_path / "old" / CONTENTS_FILE) is None


def test_the_moving_average_replaces_the_weights(tmp_path: Path) -> None:
    original, _ = state(0)
    other, expected = state(1)
    original.averages = other.modules
    exported.write_model(tmp_path, original, SPEC, SECTION)
    task, restored = exported.read_model(tmp_path)
    assert torch.equal(task.predict(restored, {"image": expected["image"]})["probability"], expected["probability"])


def test_tokenizers_travel_with_the_model(tmp_path: Path) -> None:
    """Check those of the data and those of a task, and that another file in their place is refused."""
    original, _ = state(0)
    original.tokenizers = {"text": '{"task": 1}'}
    spec = replace(SPEC, tokenizers={"token": '{"data": 1}'})
    exported.write_model(tmp_path, original, spec, SECTION)
    assert exported.tokenizer_digests(tmp_path)["text"] == hashlib.sha256(b'{"task": 1}').hexdigest()
    exported.read_model(tmp_path)
    assert (tmp_path / "tokenizer-token.json").read_text() == '{"data": 1}'
    (tmp_path / "tokenizer-token.json").write_text("{}")
    with pytest.raises(Refusal, match=r"tokenizer-token.json: damaged or missing.*run the stage"):
        exported.read_model(tmp_path)


def test_tied_weights_are_written_separately(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    exported.write_model(tmp_path, State({"net": net}), SPEC, {"use": "x"})
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(tensors["net.0.weight"], tensors["net.1.weight"])


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for read in (exported.read_model, exported.class_names, partial(exported.read_model, device=torch.device("cpu"))):
        with pytest.raises(Refusal, match="holds no exported model; run the stage"):
            read(tmp_path)


def test_tables_and_the_step_are_restored(tmp_path: Path) -> None:
    original, _ = state(0)
    original.tables = {"counts": np.arange(6).reshape(2, 3), "weights": np.array([0.5, -1.0])}
    original.step = 7
    exported.write_model(tmp_path, original, SPEC, SECTION)
    restored = exported.read_model(tmp_path)[1]
    assert restored.step == 7
    assert all(np.array_equal(restored.tables[name], table) for name, table in original.tables.items())
    assert restored.tables["counts"].dtype == np.int64
