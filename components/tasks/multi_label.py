"""Multi-label classification of pictures: any number of tags per picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..metrics.multi_label import average_precisions, multi_label_scores
from ..optimizers import sgd
from ..recipes.ranges import Count, NonNegative
from ..training.task import Batch, Shard, Spec, State, Task, Update
from .classification import Classification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..augment.copies import Transform

THRESHOLD = 0.5  # of a tag's probability


class MultiLabel(Task):
    """Prediction of column labels, uint8 [B, K], from pictures: one sigmoid per tag.

    model, augment, start, body_rate, resize: as in `tasks.classification.Classification`.
    """

    monitor: ClassVar[tuple[str, str]] = ("map", "max")
    targets: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = sgd,
        augment: list[Callable[..., Transform]] | None = None,
        start: str | None = None,
        body_rate: NonNegative = 1.0,
        resize: Count | None = None,
    ) -> None:
        self.pictures = Classification(model, optimizer, augment, start=start, body_rate=body_rate, resize=resize)

    def setup(self, spec: Spec) -> State:
        """Build the network with one output per tag."""
        if "labels" not in spec.columns or not spec.classes:
            raise Refusal(
                f"task: MultiLabel needs a column 'labels' of tags, but the data have {', '.join(spec.columns)}"
            )
        return self.pictures.setup(spec)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Update the network; a frozen body keeps its moving averages."""
        self.pictures.hold_frozen(state)
        return update("net", self.loss)

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean binary cross-entropy over pictures and tags, and the share of correct tags."""
        logits = state.modules["net"](self.pictures.pixels(shard.batch, shard.generator)).float()
        labels = shard.batch["labels"].float()
        correct = ((logits.detach() > 0) == (labels > 0.5)).float().mean()
        return F.binary_cross_entropy_with_logits(logits, labels), {"accuracy": correct}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"labels": uint8 [B, K], "probability": [B, K]}."""
        probability = state.modules["net"](self.pictures.pixels(batch)).float().sigmoid()
        return {"labels": (probability > THRESHOLD).byte(), "probability": probability}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return map (mean average precision over the tags), micro and macro F1, exact_match and loss."""
        return multi_label_scores(predictions["probability"], targets["labels"], THRESHOLD)

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the frequency of each tag in the training split as its probability."""
        probability = np.tile(train["labels"].mean(0), (count, 1))
        return {"labels": (probability > THRESHOLD).astype(np.uint8), "probability": probability}

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the average precision of each tag, beside that of a random order."""
        from ..drawings.pairs import draw_pairs

        values = average_precisions(predictions["probability"], targets["labels"])
        share = targets["labels"].mean(0)
        rows = {
            name: (float(value), float(part))
            for name, value, part in zip(self.pictures.classes, values, share, strict=True)
        }
        parts = ("average precision", "random order")
        return {"tags": draw_pairs(rows, parts, "Average precision per tag", "average precision")}
