"""The registered model's code, run when MLflow loads one: `mlflow.pyfunc.load_model("models:/NAME/1")`.

Columns in, as they are stored ({"image": uint8 [B, H, W, C]}), decoded predictions out. Weights are safetensors;
nothing is pickled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from components.training import exported  # absolute: MLflow runs this file by itself


class Predictor(PythonModel):
    _skip_type_hint_validation = True  # the signature says what fits; MLflow knows no hint for arrays by column

    def load_context(self, context: Any) -> None:
        self.task, self.state = exported.read_model(context.artifacts["model"])
        for module in self.state.modules.values():
            module.eval()

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """model_input: {column: array [B, ...]}, without a hint, which MLflow would read as a schema of its own."""
        batch = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in model_input.items()}
        with torch.no_grad():
            return {name: values.numpy() for name, values in self.task.predict(self.state, batch).items()}


set_model(Predictor())
