"""Models registered and dotted paths used before the folders moved still load; the archive is from that time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from components.recipes import signature
from components.training import exported

DATA = Path(__file__).parents[2] / "data"
PATHS = json.loads((DATA / "paths-before-the-move.json").read_text())
LOAD = """
import json, mlflow, numpy as np
images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
predictions = mlflow.pyfunc.load_model("registered").predict({"image": images})
print(json.dumps({name: values.tolist() for name, values in predictions.items()}))
"""


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a registered model, with its predictions of that time in expected.json."""
    folder = tmp_path_factory.mktemp("before") / "registered"
    with tarfile.open(DATA / "registered-before-the-move.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_mlflow_loads_it_with_the_code_stored_with_it(registered: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", LOAD], cwd=registered.parent, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert_equal_predictions(json.loads(answer.stdout.splitlines()[-1]), registered)


def test_the_present_code_reads_its_export(registered: Path) -> None:
    task, state = exported.read_model(registered / "artifacts" / "model")
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
    with torch.no_grad():
        predictions = task.predict(state, {"image": torch.from_numpy(images)})
    assert_equal_predictions({name: values.tolist() for name, values in predictions.items()}, registered)


@pytest.mark.parametrize("path", PATHS)
def test_a_dotted_path_of_an_old_recipe_still_resolves(path: str) -> None:
    signature.read_signature(path)


def assert_equal_predictions(predictions: dict, registered: Path) -> None:
    expected = json.loads((registered / "expected.json").read_text())
    assert predictions["label"] == expected["label"]
    np.testing.assert_allclose(predictions["probability"], expected["probability"], rtol=1e-5)
