"""Judge generated pictures by a classifier: its features give the FID, its predictions the other scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ..metrics.generative import class_coverage, frechet_distance, inception_score, spread, variety
from ..models.inception import Inception
from ..training import exported
from ..training.task import State, Task

SUFFIX = ".safetensors"  # of a file with Inception's weights; an exported classifier is a folder


class Judge:
    """The classifier that another recipe exported into a folder, or Inception-v3 from a .safetensors file of weights.

    It is read when it is first needed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._inception: Inception | None = None
        self._model: tuple[Task, State] | None = None

    @property
    def description(self) -> str:
        """Return where the features come from, for the run's tags."""
        return f"Inception-v3 with the weights {self.path}" if self._is_inception else f"the classifier {self.path}"

    @property
    def _is_inception(self) -> bool:
        return Path(self.path).suffix == SUFFIX

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the classifier's output layer [B, F] and its probabilities [B, K].

        pictures: uint8 [B, H, W, C].
        """
        if self._is_inception:
            if self._inception is None:
                self._inception = Inception(self.path).to(pictures.device)
            return self._inception(pictures)
        if self._model is None:
            self._model = exported.read_model(self.path, pictures.device)
        task, state = self._model
        head_inputs: list[Tensor] = []
        head = state.modules["net"].get_submodule("head")
        with head.register_forward_pre_hook(lambda module, arguments: head_inputs.append(arguments[0])):
            predictions = task.predict(state, {"image": pictures})
        return head_inputs[0].float(), predictions["probability"]

    def compare(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Return features and class probabilities of both kinds of pictures, uint8 [B, H, W, C].

        "feature", "real_feature": [B, F]; "probability", "real_probability": [B, K].
        """
        feature, probability = self(generated)
        real_feature, real_probability = self(real)
        return {
            "feature": feature,
            "probability": probability,
            "real_feature": real_feature,
            "real_probability": real_probability,
        }


def picture_scores(predictions: dict[str, np.ndarray]) -> dict[str, float]:
    """Return fid, inception_score, coverage, spread and variety of what `Judge.compare` returned for a full split.

    coverage: of the classes that the judge sees in the real pictures.
    """
    labels, real_labels = (predictions[name].argmax(1) for name in ("probability", "real_probability"))
    classes = np.unique(real_labels)
    numbers = np.searchsorted(classes, labels[np.isin(labels, classes)])
    return {
        "fid": frechet_distance(predictions["real_feature"], predictions["feature"]),
        "inception_score": inception_score(predictions["probability"]),
        "coverage": class_coverage(numbers, len(classes)),
        "spread": spread(predictions["real_feature"], predictions["feature"]),
        "variety": variety(predictions["real_feature"], real_labels, predictions["feature"], labels),
    }
