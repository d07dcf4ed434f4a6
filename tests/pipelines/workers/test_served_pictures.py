"""A registered detector takes pictures of any size, and its signature says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from components.data.scenes import Scenes
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.training.task import Spec
from tests.pipelines.workers.served import Served, serve_untrained

BACKBONE = {"use": "models.feature_net.FeatureNet", "widths": [4, 8]}
TASK = {
    "use": "tasks.two_stage.TwoStage",
    "model": {"use": "models.mask_rcnn.MaskRCNN", "backbone": BACKBONE, "hidden": 8, "width": 4},
    "most": 5,
}


@pytest.fixture
def served(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """Export an untrained Mask R-CNN, log it as a stage does, and return the model as MLflow loads it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, "mlflow.db")
    prepare_dataset(Scenes(count=2, test=2, masks=True), tmp_path / "data")
    feed = Feed(Store(tmp_path / "data").split("test"))
    shape = {"image": (64, 64, 1), "instances": (64, 64)}
    spec = Spec(shape, tuple("0123456789"), {"mean": [0.3], "std": [0.2]})
    return serve_untrained(TASK, spec, feed, tmp_path)


def test_a_registered_detector_takes_pictures_of_any_size(served: Served) -> None:
    model = served.model
    inputs, outputs = model.metadata.signature.inputs, model.metadata.signature.outputs
    assert {spec.name: (str(spec.type), spec.shape) for spec in inputs} == {"image": ("uint8", (-1, -1, -1, 1))}
    assert {spec.name: (str(spec.type), spec.shape) for spec in outputs} == {
        "boxes": ("float32", (-1, 5, 4)),
        "scores": ("float32", (-1, 5)),
        "labels": ("int64", (-1, 5)),
        "masks": ("uint8", (-1, 5, -1, -1)),
    }
    pictures = np.random.default_rng(0).integers(0, 256, (2, 100, 70, 1), dtype=np.uint8)
    answer = model.predict({"image": pictures})
    assert answer["masks"].shape == (2, 5, 100, 70)
    assert answer["boxes"].max() > 64, "in the picture's own pixels"
    assert (answer["boxes"] <= [70, 100, 70, 100]).all()
    with torch.no_grad():
        expected = served.task.predict(served.state, {"image": torch.from_numpy(pictures)})
    for name, values in expected.items():
        np.testing.assert_allclose(answer[name], values, rtol=1e-4, atol=1e-4)
    with pytest.raises(Exception, match=r"schema|type"):
        model.predict({"image": pictures.astype(np.float32)})
    assert 0 < served.cost["predict_seconds"] < 60
    assert served.cost["flops"] > 1e6
