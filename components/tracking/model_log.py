"""Log an exported model to its MLflow run and register it, exactly once.

A process may be killed, or an answer of the server lost, between any two of the steps. Each step therefore first looks
for what an earlier attempt did, and removes duplicates.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import server
from .model_code import renamed_package


@dataclass(frozen=True)
class ExportedModel:
    """A model as a journal's line `model` describes it."""

    name: str  # under which it is registered
    path: str  # of the exported folder
    digest: str  # SHA-256 of that folder
    inputs: dict[str, Any]  # column -> (dtype, shape of one example)
    outputs: dict[str, Any]  # column -> (dtype, shape of one example)
    example: str  # path of an .npz file with example inputs [B, ...]
    requirements: list[str]  # for pip


class ModelLog:
    """The logged models and registered versions of one MLflow run."""

    def __init__(self, client: Any, uri: str, experiment: str, run: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment = experiment
        self.run = run

    def register(self, model: ExportedModel) -> None:
        """Log the model's folder with its signature and register it under its name, unless that was done before."""
        from mlflow.exceptions import MlflowException

        if not self.find_versions(model.digest):
            logged = self._find_logged(model.digest) or self._log(model)
            with contextlib.suppress(MlflowException):  # the name exists already
                self.client.create_registered_model(model.name)
            tags = {"digest": model.digest}
            self.client.create_model_version(model.name, logged.model_uri, self.run, tags, model_id=logged.model_id)
        for duplicate in self.find_versions(model.digest)[1:]:
            self.client.delete_model_version(duplicate.name, duplicate.version)

    def find_versions(self, digest: str) -> list[Any]:
        """Return the versions registered from this run with this digest, oldest first."""
        versions = self.client.search_model_versions(f"run_id = '{self.run}'")
        same = [version for version in versions if version.tags.get("digest") == digest]
        return sorted(same, key=lambda version: int(version.version))

    def _find_logged(self, digest: str) -> Any | None:
        """Return this run's completely logged model with this digest; delete incomplete ones and duplicates."""
        experiment = server.get_or_create_experiment(self.client, self.experiment, self.uri)
        query = f"source_run_id = '{self.run}' AND tags.digest = '{digest}'"
        models = self.client.search_logged_models([experiment], query)
        complete = next((model for model in models if model.status == "READY"), None)
        for model in models:
            if model is not complete:
                self.client.delete_logged_model(model.model_id)
        return complete

    def _log(self, model: ExportedModel) -> Any:
        """Log the model as a pyfunc that reads the exported folder, with its signature and example."""
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        def make_schema(columns: dict[str, Any]) -> Any:
            specs: list[Any] = [
                TensorSpec(np.dtype(dtype), (-1, *shape), name) for name, (dtype, shape) in columns.items()
            ]
            return Schema(specs)

        mlflow.set_tracking_uri(self.uri)
        with renamed_package() as (package, script), mlflow.start_run(run_id=self.run):
            logged = mlflow.pyfunc.log_model(
                name="model",
                tags={"digest": model.digest},
                python_model=str(script),
                # MLflow unquotes plain paths, too, so a % in one would lead elsewhere.
                artifacts={"model": Path(model.path).resolve().as_uri()},
                model_config={"digest": model.digest},
                code_paths=[str(package)],
                signature=ModelSignature(make_schema(model.inputs), make_schema(model.outputs)),
                input_example=dict(np.load(model.example)),
                pip_requirements=model.requirements,
            )
        # Leaving the block above ended the run.
        self.client.update_run(self.run, status="RUNNING")
        return logged
