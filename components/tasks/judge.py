"""Judge generated pictures by a classifier: its features give the FID, its predictions the other scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..metrics.generative import class_coverage, frechet_by_size, frechet_distance, inception_score, spread, variety
from ..models.inception import Inception
from ..training import exported
from ..training.task import State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE_SIZES = (25, 50, 100, 200, 400, 1000, 2000, 5000)  # for which the FID is estimated
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


def score_sample_sizes(predictions: dict[str, np.ndarray], sizes: Sequence[int]) -> dict[str, float]:
    """Return, for each sample size N, {fid_N, real_fid_N}: the mean FID of random samples of N examples.

    fid: of generated examples; real_fid: of real ones compared with other real ones, whose true distance is 0. A size
    above half of the split has no scores.
    """
    real, generated = predictions["real_feature"], predictions["feature"]
    half = len(real) // 2
    possible = [size for size in sizes if size <= half]
    scores = {}
    for name, parts in (("fid", (real, generated)), ("real_fid", (real[:half], real[half : 2 * half]))):
        for size, distances in zip(possible, frechet_by_size(*parts, possible), strict=True):
            scores[f"{name}_{size}"] = float(distances.mean())
    return scores


def draw_sample_sizes(predictions: dict[str, np.ndarray]) -> dict[str, Figure | str]:
    """Draw the FID against the number of examples it is estimated from, with a table of means and deviations.

    Beside the generated examples stand real ones, compared with other real ones: their true FID is 0. Draws nothing for
    a small split.
    """
    from ..drawings.figures import draw_curves

    real, generated = predictions["real_feature"], predictions["feature"]
    half = len(real) // 2
    if half < SAMPLE_SIZES[0]:
        return {}
    groups = {"generated": (real, generated), "real": (real[:half], real[half : 2 * half])}
    curves, lines = {}, ["examples  compared with real ones  FID, mean  standard deviation"]
    for name, parts in groups.items():
        sizes = [size for size in SAMPLE_SIZES if size < len(parts[0])] + [len(parts[0])]
        distances = frechet_by_size(*parts, sizes)
        curves[name] = [(np.array(sizes), run) for run in distances.T]
        lines += [
            f"{size:8}  {name:23}  {run.mean():9.2f}  {run.std():18.2f}"
            for size, run in zip(sizes, distances, strict=True)
        ]
    figure = draw_curves(curves, "FID by sample size", "examples")
    return {"fid_by_size": figure, "fid_by_size_table": "\n".join(lines) + "\n"}
