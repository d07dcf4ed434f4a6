"""Registered models bring their own code: two versions in one process, and beside a folder `components`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from components.files import bytes_digest
from components.recipes import recipe
from components.tracking import model_code, server
from components.tracking.model_log import ExportedModel, ModelLog
from components.training import exported
from components.training.task import Spec, Task

TASK = {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}
SPEC = Spec({"image": (8, 8, 1)}, ("a", "b", "c"), {"mean": [0.0], "std": [1.0], "scale": 255.0})
ANSWER = """
def predict_within_memory(task, state, batch):
    return _predict(task, state, batch) | {"label": np.full(len(batch["image"]), -1)}
"""
LOAD = """
import json, sys, mlflow, numpy as np
images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
answers = [mlflow.pyfunc.load_model(uri).predict({"image": images})["label"].tolist() for uri in sys.argv[1:]]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Log one export with today's code and with code that answers -1; return the folder and the models' addresses."""
    folder = tmp_path_factory.mktemp("versions")
    changed = folder / "changed" / "components"
    shutil.copytree(model_code.PACKAGE, changed, ignore=shutil.ignore_patterns("__pycache__"))
    memory = changed / "training" / "memory.py"
    memory.write_text(memory.read_text().replace("def predict_within_memory", "def _predict") + ANSWER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        client = server.make_client(uri := f"sqlite:///{folder}/mlflow.db")
        experiment = server.get_or_create_experiment(client, "code", uri)
        torch.manual_seed(0)
        exported.write_model("model", recipe.build(TASK, Task).setup(SPEC), SPEC, TASK)
        np.savez("example.npz", image=np.zeros((1, 8, 8, 1), np.uint8))
        columns = {"image": ("uint8", (8, 8, 1))}, {"label": ("int64", ())}
        models = []
        for package in (model_code.PACKAGE, changed):
            patch.setattr(model_code, "PACKAGE", package)
            patch.setattr(model_code, "PREDICTOR", package / "tracking" / "predictor.py")
            run = client.create_run(experiment).info.run_id
            model = ExportedModel("softmax", "model", bytes_digest("model"), *columns, "example.npz", [])
            models.append(ModelLog(client, uri, "code", run)._log(model).model_uri)
    return folder, models


def test_two_codes_load_in_one_process_beside_a_stranger(versions: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, models = versions
    stranger = tmp_path / "components"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("raise SystemExit('the wrong package')")
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", LOAD, *models]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert set(first) <= {0, 1, 2}
    assert second == [-1] * 4


def test_each_code_has_a_name_of_its_own_and_nothing_of_it_is_left_here(versions: tuple[Path, list[str]]) -> None:
    folder, _ = versions
    assert len({path.name for path in folder.rglob("trainyard_*") if path.is_dir()}) == 2
    assert not [name for name in sys.modules if name.startswith("trainyard_")]
    assert not [entry for entry in sys.path if "trainyard-code-" in entry]
