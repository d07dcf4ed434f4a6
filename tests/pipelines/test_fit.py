"""Run small recipes of a family through `fit`, in this process, and check their runs in a real MLflow."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from components import network
from components.cluster import connection, plan, prestart
from components.drawings import figures
from components.errors import Refusal
from components.runs import journal
from components.runs.journal import Journal
from components.tracking import server
from pipelines import fit
from pipelines.commands import ui
from pipelines.stage import context, provenance
from tests.pipelines.yard import in_this_process

MODELS = {"softmax": "models.softmax.Softmax", "mlp": "models.mlp.MLP"}


def make_recipe(model: str, rate: float) -> dict[str, Any]:
    task = {"use": "tasks.classification.Classification", "model": {"use": model}}
    task |= {"optimizer": {"use": "optimizers.sgd", "lr": rate}}
    data = {"use": "data.digits.Digits", "labels": 100, "size": 8, "validation": 200}
    return {"data": data, "task": task, "fit": {"epochs": 2, "batch": 20, "log_every": 1}}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """Provide a directory in which an MLP diverged, then another did not, then softmax was fitted."""
    folder = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        in_this_process(patch.setattr)
        for owner, name in ((connection, "connect"), (prestart, "prestart_workers")):
            patch.setattr(owner, name, lambda *_: None)
        patch.setattr(context.Stage, "log_model", lambda *_, **__: None)  # registering takes seconds
        patch.setattr(plan, "plan_workers", lambda *_: SimpleNamespace(workers=1, gpu=False))
        (folder / "pipelines/small").mkdir(parents=True)
        Path("params.yaml").write_text("name: flagship\n")
        Path("pipelines/small/dvc.yaml").touch()
        Path("pipelines/small/dvc.lock").write_text("locked")
        for name, rate in (("mlp", 1e30), ("mlp", 0.1), ("softmax", 0.1)):
            path = Path(f"pipelines/small/{name}.yaml")
            path.write_text(yaml.safe_dump(make_recipe(MODELS[name], rate)))
            with pytest.raises(Refusal, match="became") if rate > 1 else nullcontext():
                fit.main(str(path))
        yield folder


def list_runs() -> list[Any]:
    """Return the runs of the family, the newest first."""
    client = server.make_client(server.tracking_uri())
    return list(client.search_runs([client.get_experiment_by_name("small").experiment_id]))


def test_ui_links_to_the_curves_and_the_comparison_of_a_family(
    family: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The pages show the newest run of each system; the flagship never ran and has no page."""
    started = nullcontext(SimpleNamespace(wait=lambda: 0))
    monkeypatch.setattr(ui, "process_group", lambda *_, **__: started)
    assert ui.main(network.free_port()) == 0
    lines = capsys.readouterr().out.splitlines()
    pages = {title.strip(): address for title, _, address in (line.rpartition(" ") for line in lines[:-1])}
    assert list(pages) == ["MLflow", "small: all fits", "small: curves of all fits", "small: fits compared"]
    assert "compareRunsMode=CHART" in pages["small: curves of all fits"]
    softmax, mlp, failed = list_runs()
    assert [run.info.run_name for run in (softmax, mlp, failed)] == ["softmax", "mlp", "mlp"]
    ids = urllib.parse.parse_qs(pages["small: fits compared"].partition("?")[2])["runs"][0]
    assert json.loads(ids) == [softmax.info.run_id, mlp.info.run_id]


def test_every_run_names_its_data_and_its_provenance(family: Path) -> None:
    """So does the run that diverged."""
    (manifest,) = map(json.loads, (file.read_text() for file in family.glob(".trainyard/prepared/*/*/manifest.json")))
    for run in list_runs():
        (dataset,) = [record.dataset for record in run.inputs.dataset_inputs]
        assert (dataset.name, dataset.digest) == (manifest["name"], manifest["digest"][:32])
        assert json.loads(dataset.profile) == {"set": manifest["name"], "train": 100, "validation": 200, "test": 1497}
        assert run.data.tags["sha256.code"] == provenance.code_digest()
        assert run.data.tags["sha256.dvc.lock"] == hashlib.sha256(b"locked").hexdigest()
    assert [run.info.status for run in list_runs()] == ["FINISHED", "FINISHED", "FAILED"]


@pytest.mark.parametrize(("epochs", "drawn"), [(1, False), (2, True)])
def test_losses_are_drawn_where_there_is_a_curve(epochs: int, drawn: bool, tmp_path: Path) -> None:
    lines = Journal(tmp_path / journal.LOG)
    for epoch in range(1, epochs + 1):
        lines.write("metric", step=epoch, epoch=epoch, values={"epoch/loss": 1 / epoch, "validation/accuracy": 0.5})
    picture = tmp_path / "curves.png"
    assert fit.draw_curves(tmp_path, picture) == ([picture] if drawn else [])
    assert picture.is_file() == drawn


def write_losses(folder: Path, names: tuple[str, ...]) -> Path:
    lines = Journal(folder / journal.LOG)
    for epoch in (1, 2, 3):
        lines.write("metric", step=epoch, epoch=epoch, values=dict.fromkeys(names, 1 / epoch))
    return folder


@pytest.mark.parametrize(
    ("names", "objective", "panels"),
    [
        (("epoch/loss", "validation/loss"), "loss", {"loss": ["training", "validation"]}),
        (
            ("epoch/loss", "validation/loss"),
            None,
            {"what training minimises": ["training"], "loss": ["validation"]},
        ),
        (("epoch/loss", "epoch/mae", "validation/mse"), "mse", {"mse": ["training", "validation"]}),
        (("epoch/loss", "validation/mse", "validation/mae"), "mae", {"mae": ["training", "validation"]}),
        (
            ("epoch/discriminator_loss", "epoch/generator_loss"),
            "loss",
            {"discriminator loss": ["training"], "generator loss": ["training"]},
        ),
    ],
)
def test_losses_of_different_kinds_have_axes_of_their_own(
    names: tuple[str, ...],
    objective: str | None,
    panels: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = {}
    monkeypatch.setattr(figures, "draw_panels", lambda groups, title: drawn.update(groups))
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: path)
    fit.draw_curves(write_losses(tmp_path, names), tmp_path / "curves.png", objective)
    assert {quantity: list(curves) for quantity, curves in drawn.items()} == panels


def test_panels_keep_a_name_in_one_colour() -> None:
    x = np.arange(3.0)
    figure = figures.draw_panels({"loss": {"training": (x, x)}, "accuracy": {"a": (x, x), "training": (x, x)}}, "Both")
    first, second = figure.axes
    assert first.lines[0].get_color() == second.lines[1].get_color() != second.lines[0].get_color()
