"""The contract on a GPU: every system learns there, comes back from a checkpoint bit for bit, and predicts the same.

`python -m pytest tests/test_gpu.py`; without a GPU all is skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.storage.store import Store
from components.training import checkpoint, engine, exported
from components.training.peers import Peers
from tests import test_contract as contract

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
prepared = contract.prepared
NEAR = {"rtol": 0.02, "atol": 0.02}  # of a processor's answers: a GPU convolves in TensorFloat-32


def gpu() -> Peers:
    return Peers(device=torch.device("cuda", 0))


@contract.everyone
def test_it_learns_resumes_and_predicts(name: str, prepared: dict[str, Path], tmp_path: Path) -> None:
    data, whole, halved = prepared[name], tmp_path / "whole", tmp_path / "halved"
    contract.run(gpu(), name, data, whole)
    losses = [m["values"]["epoch/loss"] for m in contract.result(whole)[1] if "epoch/loss" in m["values"]]
    assert not losses or losses[-1] < losses[0]

    total = checkpoint.read_checkpoint(checkpoint.list_checkpoints(whole)[0])[1]["step"]
    contract.run(gpu(), name, data, halved, total // 2 + 1)
    contract.run(gpu(), name, data, halved)
    assert contract.result(halved) == contract.result(whole)

    store = Store(data / "prepared")
    here = exported.read_model(whole / "model", torch.device("cuda", 0))
    scores, predictions = engine.evaluate(*here, contract.watched(store, torch.device("cuda", 0)), gpu())
    assert all(np.isfinite(value) for value in scores.values())
    _, elsewhere = engine.evaluate(*exported.read_model(whole / "model"), contract.watched(store))
    if "probability" in predictions:
        np.testing.assert_allclose(predictions["probability"], elsewhere["probability"], **NEAR)


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"compile": True}], ids=str)
def test_bfloat16_and_compiled(options: dict, prepared: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both learn, and a compiled step ends with the same bytes when it is stopped and goes on."""
    name = "vision/resnet"
    monkeypatch.setitem(contract.SYSTEMS[name], "fit", contract.SYSTEMS[name]["fit"] | options)
    for until in (None, 9):
        folder = tmp_path / str(until)
        contract.run(gpu(), name, prepared[name], folder, until)
        contract.run(gpu(), name, prepared[name], folder)
    assert contract.result(tmp_path / "9") == contract.result(tmp_path / "None")
    losses = [m["values"]["epoch/loss"] for m in contract.result(folder)[1] if "epoch/loss" in m["values"]]
    assert losses[-1] < losses[0]
