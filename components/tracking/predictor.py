"""Serve a registered model: MLflow runs this file for `mlflow.pyfunc.load_model("models:/NAME/1")`.

The input are columns as they are stored ({"image": uint8 [B, H, W, C]}), the output decoded predictions. Weights are
safetensors; nothing is pickled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

# The imports are absolute because MLflow runs this file by itself; a registered copy names its own package instead.
from components.errors import Refusal
from components.files import bytes_digest
from components.training import exported, memory


class Predictor(PythonModel):
    """MLflow's interface to an exported model."""

    # The signature describes the input; MLflow has no type hint for arrays by column.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Read the exported model; raise Refusal if its bytes differ from those that were registered."""
        folder = context.artifacts["model"]
        if bytes_digest(folder) != (context.model_config or {}).get("digest"):
            raise Refusal(f"{folder}: its bytes have changed since they were registered; load another version")
        self.task, self.state = exported.read_model(folder)
        for module in self.state.modules.values():
            module.eval()

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return {name: array [B, ...]} for `model_input`, {column: array [B, ...]}.

        The arguments have no type hints: MLflow would read a hint as a schema.
        """
        batch = {name: _to_column(np.asarray(values)) for name, values in model_input.items()}
        with torch.no_grad():
            return memory.predict_within_memory(self.task, self.state, batch)


def _to_column(values: np.ndarray) -> torch.Tensor | list[str]:
    """Return numbers as a tensor, and texts as a list."""
    if values.dtype.kind in "OUS":
        return [str(value) for value in values.reshape(-1).tolist()]
    return torch.from_numpy(np.ascontiguousarray(values))


set_model(Predictor())
