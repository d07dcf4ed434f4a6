"""Build a folder in which `trainyard retrain` compares real small models with a real MLflow store in SQLite.

Functions stand in for the stages of the pipeline, and the comparison runs in this process, without DVC and Ray.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.cluster import spread
from components.data.digits import Digits
from components.files import bytes_digest
from components.recipes import recipe
from components.runs.description import describe_run
from components.runs.journal import STAGE_LOG, Journal
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tracking import server
from components.tracking.registry import Registry
from components.training import engine, exported
from components.training.peers import Peers
from components.training.task import Task
from pipelines.commands.dvc import repro, status
from pipelines.commands.promotion.ledger import Ledger
from pipelines.stage.context import Stage
from pipelines.workers import augmentation, training

ROOT = Path(__file__).parent.parent.parent
NAME = "glyphs-to-digits"
TASK = {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}


class Yard:
    """A folder with prepared digits, and models that were trained on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, labels: int = 500, darker: bool = False, seed: int = 0) -> None:
        """Prepare the digits as source and target; another seed draws another training split."""
        for role in ("source", "target"):
            digits = Dark(labels) if darker else Digits(labels, size=8, seed=seed)
            prepare_dataset(digits, f"data/prepared/{role}")
        augmentation.write_statistics(Peers(), Store("data/prepared/target"), Path("data/augmented/target"))

    def train(
        self, epochs: int = 1, shuffled: bool = False, seed: int = 0, recorded: bool = True, name: str = NAME
    ) -> str:
        """Train models/finetuned/0 and record what the stage `evaluate` records for the registry; return its digest.

        recorded: whether the model brings a record of its training examples, which earlier versions did not write.
        name: of the registered model.
        """
        spec = training.read_spec("data/prepared/target", "data/augmented/target")
        split = Store("data/prepared/target").split("train")
        feed = Shuffled(split) if shuffled else Feed(split)
        torch.manual_seed(seed)
        task = recipe.build(TASK, Task)
        state = engine.fit(task, spec, feed, None, None, Peers(), epochs=epochs, batch=50, seed=seed).state
        shutil.rmtree("models", ignore_errors=True)
        folder = Path("models/finetuned/0")
        contents = Store("data/prepared/target").contents("train") if recorded else None
        exported.write_model(folder, state, spec, TASK, contents)
        images = split.take(np.arange(2), ["image"])["image"]
        with torch.no_grad():
            outputs = {n: v.numpy() for n, v in task.predict(state, {"image": torch.from_numpy(images)}).items()}
        run = Path(f".trainyard/runs/evaluate-{bytes_digest(folder)[:16]}{name.removeprefix(NAME)}")
        describe_run(run, "evaluate", name, tags={"trainyard.stage": "evaluate"})
        stage = Stage("evaluate", {"name": name}, run, Journal(run / STAGE_LOG), Journal(run / STAGE_LOG))
        stage.log_model(name, folder, {"image": images}, outputs)
        Path("report.html").write_text(bytes_digest(folder))
        stage.log_artifact("report.html")
        stage.journal.write("end", status="FINISHED")
        return bytes_digest(folder)

    def champion(self) -> str | None:
        """Return the number of the champion's version."""
        champion = Registry(NAME).champion()
        return champion.number if champion else None

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Return the ledger's records of one kind."""
        return [record.payload for record in Ledger().records if record.kind == kind]

    def audits(self) -> list[Any]:
        """Return the runs of decisions in MLflow."""
        client = server.make_client(server.tracking_uri())
        experiment = client.get_experiment_by_name(NAME)
        return client.search_runs([experiment.experiment_id], "tags.\"trainyard.stage\" = 'promotion'")


class Dark(Digits):
    """The digits at two fifths of their brightness."""

    def __init__(self, labels: int) -> None:
        super().__init__(labels, size=8)

    def examples(self, split: str, part: int) -> Any:
        for example in super().examples(split, part):
            yield example | {"image": (example["image"] * 0.4).astype(np.uint8)}


class Shuffled(Feed):
    """The same pictures with random labels."""

    def gather(self, positions: np.ndarray) -> dict[str, Any]:
        columns = super().gather(positions)
        labels = torch.from_numpy(np.random.default_rng(0).integers(0, 10, len(self.split)))
        return columns | {"label": labels[columns["row"]]}


def in_this_process(set_: Callable[..., None]) -> None:
    """Replace the cluster's and DVC's parts of a retrain by calls in this process; set_(owner, name, value)."""
    set_(
        spread,
        "run_on_workers",
        lambda function, *arguments, **_: spread.resolve_function(function)(Peers(), *arguments),
    )
    set_(repro, "local_cluster", nullcontext)
    set_(repro, "reproduce_or_refuse", lambda *targets: None)
    set_(status, "list_changes", lambda: json.loads(Path("changed.json").read_text()))


def changed(*lines: str) -> None:
    """Set what `dvc status` reports as changed."""
    Path("changed.json").write_text(json.dumps(lines))


def make_yard(folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """Make `folder` the current directory, with prepared digits, no model yet, and a copy of the database `store`."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(store, folder)}")
    monkeypatch.setenv("TRAINYARD_BY", "a test")
    in_this_process(monkeypatch.setattr)
    shutil.copy(ROOT / "params.yaml", folder)
    settings(gate={"class_floor": None})
    changed("finetune: changed params: params.yaml")
    yard = Yard(folder)
    yard.prepare()
    return yard


def settings(**sections: dict[str, Any]) -> None:
    """Change values in the section `retrain` of params.yaml."""
    import yaml

    params = recipe.load("params.yaml")
    for name, values in sections.items():
        params["retrain"][name] = params["retrain"][name] | values
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
