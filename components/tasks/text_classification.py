"""Text classification: rows of tokens to classes, also where some classes are rare."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..metrics.classification import class_scores, classification_scores, confusion_counts, constant_classes
from ..optimizers import adam
from ..storage.vocabulary import PAD
from ..tokens.tokenizer import Tokenizer
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISTAKES = 12  # texts in the sample


class TextClassification(Task):
    """Classification of rows of `data.text_table.TextTable`.

    model: factory called with (vocabulary, length, classes), the size of the vocabulary and the tokens per row.
    weights: "balanced" weights the loss of each class by (examples / (classes * examples of the class)), so that a
    rare class counts as much as a frequent one.

    The monitored score is macro-F1, the mean over the classes of F1: always answering the frequent class scores low.
    """

    monitor: ClassVar[tuple[str, str]] = ("macro_f1", "max")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ("token", "label")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adam,
        weights: Literal["equal", "balanced"] = "equal",
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.weights = weights
        self.class_weights = torch.ones(1)
        self.classes: list[str] = []
        self.tokenizer: Tokenizer | None = None

    def setup(self, spec: Spec) -> State:
        """Build the network for the vocabulary and the classes."""
        if not {"token", "label"} <= spec.columns.keys() or "token" not in spec.tokenizers:
            raise Refusal(
                "task: TextClassification needs texts with a tokenizer and classes, such as data.text_table.TextTable;"
                f" the data have {', '.join(spec.columns)}"
            )
        self.classes = list(spec.classes)
        self.tokenizer = Tokenizer(spec.tokenizers["token"])
        self.class_weights = torch.ones(len(self.classes))
        if self.weights == "balanced":
            counts = torch.tensor([spec.statistics["labels"].get(str(n), 0) for n in range(len(self.classes))])
            self.class_weights = counts.sum() / (len(self.classes) * counts.clamp(min=1).float())
        (length,) = spec.columns["token"]
        net = self.model(vocabulary=len(self.tokenizer), length=length, classes=len(self.classes))
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def objective(self) -> str | None:
        """Return "loss", the cross-entropy, unless the classes are weighted."""
        return "loss" if self.weights == "equal" else None

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted mean of the cross-entropy, and the accuracy, for token [B, T] and label [B]."""
        labels = shard.batch["label"]
        logits = state.modules["net"](shard.batch["token"].long()).float()
        weights = self.class_weights.to(logits.device)[labels]
        loss = (F.cross_entropy(logits, labels, reduction="none") * weights).mean()
        return loss, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"label": [B], "probability": [B, K]}."""
        probability = state.modules["net"](batch["token"].long()).float().softmax(1)
        return {"label": probability.argmax(1), "probability": probability}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return macro_f1, accuracy, loss, and precision and recall averaged over the classes."""
        scores = classification_scores(predictions["probability"], targets["label"])
        return class_scores(predictions["label"], targets["label"]) | scores

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the frequencies of the training labels as probabilities, and the most frequent label."""
        return constant_classes(train["label"], len(self.classes), count)

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Draw the confusion matrix, and list the wrong answers with the greatest probability."""
        from ..drawings import figures

        counts = confusion_counts(predictions["label"], targets["label"], len(self.classes))
        wrong = np.flatnonzero(predictions["label"] != targets["label"])
        confidence = predictions["probability"].max(1)
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
        lines = [
            f"{self.classes[targets['label'][row]]} taken for {self.classes[predictions['label'][row]]}"
            f" (p = {confidence[row]:.2f}): {self._text(targets['token'][row])}\n"
            for row in worst
        ]
        return {
            "confusion": figures.draw_confusion(counts, self.classes, "Confusion"),
            "mistakes": "".join(lines) or "none\n",
        }

    def _text(self, tokens: np.ndarray) -> str:
        """Return the text of a row of tokens [T]."""
        assert self.tokenizer is not None  # `setup` comes first
        return self.tokenizer.decode(tokens[tokens != PAD].tolist())
