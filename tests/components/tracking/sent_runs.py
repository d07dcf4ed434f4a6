"""Write run folders with metrics and models, and read what arrived of them at the tracker."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from components.recipes import recipe
from components.runs import journal
from components.runs.description import RUN, describe_run
from components.runs.journal import Journal
from components.tracking import server
from components.training import exported
from components.training.task import Spec, Task


def runs(experiment: str = "bench") -> list:
    client = server.make_client(server.tracking_uri())
    entity = client.get_experiment_by_name(experiment)
    if entity is None:
        return []
    return client.search_runs([entity.experiment_id], order_by=["start_time ASC", "attributes.run_name ASC"])


def points(run, name: str) -> list[tuple[int, float]]:
    history = server.make_client(server.tracking_uri()).get_metric_history(run.info.run_id, name)
    return sorted((metric.step, metric.value) for metric in history)


def write_run(folder: Path, steps: int = 30, parent: Path | None = None, name: str = "pretrain") -> Journal:
    describe_run(folder, name, "bench", parent, {"lr": 0.1}, {"trainyard.stage": name}, [
        {"name": "digits", "digest": "ab" * 32, "profile": {"train": 100}}
    ])  # fmt: skip
    lines = Journal(folder / journal.LOG)
    write_steps(lines, range(1, steps + 1))
    return lines


def write_steps(lines: Journal, steps: range) -> None:
    for step in steps:
        lines.write("metric", step=step, epoch=step / 10, values={"train/loss": 1 / step})
        lines.write("progress", step=step, steps=100, values={}, speed=100.0)
        if step % 10 == 0:
            values = {"validation/accuracy": step / 100, "epoch/loss": 2 / step}
            lines.write("metric", step=step, epoch=step / 10, values=values)


def exported_model(folder: Path) -> Path:
    """Write an untrained model of pictures of 8 x 8 pixels into `folder`, and return it."""
    section = {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}
    spec = Spec({"image": (8, 8, 1), "label": ()}, ("a", "b"), {"mean": [0.4], "std": [0.2]})
    exported.write_model(folder, recipe.build(section, Task).setup(spec), spec, section)
    return folder


def write_run_with_model(folder: Path) -> None:
    """Write a run that registers an exported model as `digits`."""
    lines, example = write_run(folder), folder / "example.npz"
    model = exported_model(folder.parent.parent / "model")
    np.savez(example, image=np.zeros((2, 8, 8, 1), np.uint8))  # type: ignore[arg-type]
    lines.write(
        "model",
        name="digits",
        path=str(model),
        digest="cd" * 32,
        inputs={"image": ("uint8", [8, 8, 1])},
        outputs={"label": ("int64", [])},
        example=str(example),
        requirements=[],
    )


def registered_models(folder: Path) -> tuple[int, int, list[str]]:
    """Return (number of runs, number of logged models, versions of `digits`) at the tracker."""
    client = server.make_client(server.tracking_uri())
    experiment = client.get_experiment_by_name("bench").experiment_id
    id = json.loads((folder / RUN).read_text())["id"]
    same = [run for run in client.search_runs([experiment]) if run.data.tags["trainyard.id"] == id]
    logged = client.search_logged_models([experiment], f"source_run_id = '{same[0].info.run_id}'")
    return len(same), len(logged), [str(v.version) for v in client.search_model_versions("name = 'digits'")]
