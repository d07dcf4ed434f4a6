"""Recipes of a family, small, through the real `fit` in this process and a real MLflow: what it has of their runs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from components import network
from components.cluster import connection, plan, prestart
from components.errors import Refusal
from components.runs import journal
from components.runs.journal import Journal
from components.tracking import server
from pipelines import fit
from pipelines.commands import ui
from pipelines.stage import context, provenance
from tests.pipelines.yard import in_this_process

MODELS = {"softmax": "models.softmax.Softmax", "mlp": "models.mlp.MLP"}


def recipe_of(model: str, rate: float) -> dict[str, Any]:
    task = {"use": "tasks.classification.Classification", "model": {"use": model}}
    task |= {"optimizer": {"use": "optimizers.sgd", "lr": rate}}
    data = {"use": "data.digits.Digits", "labels": 100, "size": 8, "validation": 200}
    return {"data": data, "task": task, "fit": {"epochs": 2, "batch": 20, "log_every": 1}}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """The current directory of these tests: an MLP diverged, then one did not, then softmax was fitted."""
    folder = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        in_this_process(patch.setattr)
        for owner, name in ((connection, "connect"), (prestart, "prestart_workers")):
            patch.setattr(owner, name, lambda *_: None)
        patch.setattr(context.Stage, "log_model", lambda *_, **__: None)  # registered, which takes seconds
        patch.setattr(plan, "plan_workers", lambda *_: SimpleNamespace(workers=1, gpu=False))
        (folder / "pipelines/small").mkdir(parents=True)
        Path("params.yaml").write_text("name: flagship\n")
        Path("pipelines/small/dvc.yaml").touch()
        Path("pipelines/small/dvc.lock").write_text("locked")
        for name, rate in (("mlp", 1e30), ("mlp", 0.1), ("softmax", 0.1)):
            path = Path(f"pipelines/small/{name}.yaml")
            path.write_text(yaml.safe_dump(recipe_of(MODELS[name], rate)))
            with pytest.raises(Refusal, match="became") if rate > 1 else nullcontext():
                fit.main(str(path))
        yield folder


def runs() -> list[Any]:
    """Of the family, the newest first."""
    client = server.make_client(server.tracking_uri())
    return list(client.search_runs([client.get_experiment_by_name("small").experiment_id]))


def test_ui_opens_the_curves_and_the_comparison_of_a_family(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Of each system the newest run, as the tracker has it; the flagship, which never ran, is left to MLflow."""
    started = SimpleNamespace(returncode=0)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: started)
    assert ui.main(network.free_port()) == 0
    lines = capsys.readouterr().out.splitlines()
    pages = {title.strip(): address for title, _, address in (line.rpartition(" ") for line in lines[:-1])}
    assert list(pages) == ["MLflow", "small: all fits", "small: curves of all fits", "small: fits compared"]
    assert "compareRunsMode=CHART" in pages["small: curves of all fits"]
    softmax, mlp, failed = runs()
    assert [run.info.run_name for run in (softmax, mlp, failed)] == ["softmax", "mlp", "mlp"]
    ids = urllib.parse.parse_qs(pages["small: fits compared"].partition("?")[2])["runs"][0]
    assert json.loads(ids) == [softmax.info.run_id, mlp.info.run_id]


def test_every_run_names_the_data_it_read_and_where_it_comes_from(family: Path) -> None:
    """The one that diverged, too."""
    (manifest,) = map(json.loads, (file.read_text() for file in family.glob(".trainyard/prepared/*/*/manifest.json")))
    for run in runs():
        (given,) = [found.dataset for found in run.inputs.dataset_inputs]
        assert (given.name, given.digest) == (manifest["name"], manifest["digest"][:32])
        assert json.loads(given.profile) == {"set": manifest["name"], "train": 100, "validation": 200, "test": 1497}
        assert run.data.tags["sha256.code"] == provenance.code_digest()
        assert run.data.tags["sha256.dvc.lock"] == hashlib.sha256(b"locked").hexdigest()
    assert [run.info.status for run in runs()] == ["FINISHED", "FINISHED", "FAILED"]


@pytest.mark.parametrize(("epochs", "drawn"), [(1, False), (2, True)])
def test_losses_are_drawn_where_there_is_a_curve(epochs: int, drawn: bool, tmp_path: Path) -> None:
    lines = Journal(tmp_path / journal.LOG)
    for epoch in range(1, epochs + 1):
        lines.write("metric", step=epoch, epoch=epoch, values={"epoch/loss": 1 / epoch, "validation/accuracy": 0.5})
    picture = tmp_path / "curves.png"
    assert fit.draw_curves(tmp_path, picture) == ([picture] if drawn else [])
    assert picture.is_file() == drawn
