"""Log an exported model as a stage does, and load it as MLflow does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from components.recipes import recipe
from components.runs import journal
from components.runs.description import describe_run
from components.runs.journal import STAGE_LOG, Journal
from components.storage.feed import Feed
from components.tracking import server
from components.tracking.model_log import ExportedModel, ModelLog
from components.training import exported
from components.training.task import Spec, State, Task
from pipelines.stage.context import Stage
from pipelines.workers.scoring import model_cost, serving_example


class Served(NamedTuple):
    """A model as MLflow loads it, and the task and the state that it was made from."""

    model: Any
    task: Task
    state: State
    cost: dict[str, float]


def serve_untrained(section: dict[str, Any], spec: Spec, feed: Feed, folder: Path) -> Served:
    """Export the untrained network of a section `task`, log it below `folder`, the current one, and load it."""
    torch.manual_seed(0)
    task = recipe.build(section, Task)
    state = task.setup(spec)
    state.modules["net"].eval()
    exported.write_model("model", state, spec, section)
    example = serving_example(task, state, feed)
    assert example is not None
    run = folder / "run"
    describe_run(run, "fit", "served")
    stage = Stage("fit", {"name": "served"}, run, Journal(run / STAGE_LOG), Journal(run / STAGE_LOG))
    stage.log_model("served", "model", example.inputs, example.outputs, free=example.free)
    (record,) = journal.read_records(run / STAGE_LOG, "model")
    client = server.make_client(uri := f"sqlite:///{folder}/mlflow.db")
    experiment = server.get_or_create_experiment(client, "served", uri)
    logged = ModelLog(client, uri, "served", client.create_run(experiment).info.run_id)._log(
        # the journal names files relative to their run
        ExportedModel(**record.payload | {name: str(run / record.payload[name]) for name in ("path", "example")})
    )
    import mlflow

    return Served(mlflow.pyfunc.load_model(logged.model_uri), task, state, model_cost(task, state, feed))
