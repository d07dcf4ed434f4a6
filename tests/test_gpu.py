"""On a GPU every system learns, resumes from a checkpoint bit for bit, and predicts the same as on a CPU.

Run `python -m pytest tests/test_gpu.py`. Without a GPU all tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.storage.store import Store
from components.training import checkpoint, evaluation, exported
from components.training.peers import Peers
from tests import test_contract as contract

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
prepared = contract.prepared
NEAR = {"rtol": 0.02, "atol": 0.02}  # a GPU computes convolutions in TensorFloat-32


def gpu() -> Peers:
    return Peers(device=torch.device("cuda", 0))


@contract.each_system
def test_it_learns_resumes_and_predicts(name: str, prepared: contract.PreparedData, tmp_path: Path) -> None:
    data, complete, resumed = prepared[name], tmp_path / "complete", tmp_path / "resumed"
    contract.train_system(gpu(), name, data, complete)
    losses = [m["values"]["epoch/loss"] for m in contract.read_result(complete)[1] if "epoch/loss" in m["values"]]
    assert not losses or losses[-1] < losses[0]

    total = checkpoint.read_checkpoint(checkpoint.list_checkpoints(complete)[0])[1]["step"]
    contract.train_system(gpu(), name, data, resumed, total // 2 + 1)
    contract.train_system(gpu(), name, data, resumed)
    assert contract.read_result(resumed) == contract.read_result(complete)

    store = Store(data / "prepared")
    model = exported.read_model(complete / "model", torch.device("cuda", 0))
    scores, predictions = evaluation.evaluate(*model, contract.evaluation_feed(store, torch.device("cuda", 0)), gpu())
    assert all(np.isfinite(value) for value in scores.values())
    _, on_cpu = evaluation.evaluate(*exported.read_model(complete / "model"), contract.evaluation_feed(store))
    if "probability" in predictions:
        np.testing.assert_allclose(predictions["probability"], on_cpu["probability"], **NEAR)


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"compile": True}], ids=str)
def test_bfloat16_and_compiled(
    options: dict, prepared: contract.PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both learn, and a run that is stopped and resumed ends with the same bytes."""
    name = "vision/resnet"
    monkeypatch.setitem(contract.SYSTEMS[name], "fit", contract.SYSTEMS[name]["fit"] | options)
    for until in (None, 9):
        folder = tmp_path / str(until)
        contract.train_system(gpu(), name, prepared[name], folder, until)
        contract.train_system(gpu(), name, prepared[name], folder)
    assert contract.read_result(tmp_path / "9") == contract.read_result(tmp_path / "None")
    losses = [m["values"]["epoch/loss"] for m in contract.read_result(folder)[1] if "epoch/loss" in m["values"]]
    assert losses[-1] < losses[0]
