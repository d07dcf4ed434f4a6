"""Classification of sentences and of pairs of sentences: BERT with an output layer on [CLS] (notes: fine-tuning)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..metrics.agreement import f1_score, matthews_correlation
from ..metrics.classification import classification_scores, confusion_counts, constant_classes
from ..models.finetuning import Finetuning, TextReader, predict_by_length
from ..optimizers import adamw
from ..recipes.ranges import Count, Fraction, Natural, NonNegative, Proportion
from ..training.task import Batch, Shard, Spec, State, Task

SHOWN = 12  # mistakes in the sample


class SentenceClassification(Task):
    """Classification of the column "text", or of "text" and "pair" together, into the classes of the data.

    start: a folder with a BERT, exported here or by Hugging Face; its sizes and its tokenizer come with it.
    random: take no weights from `start` (from scratch, for comparison).
    model: a new network where there is no `start`; the tokenizer is then the data's (`data.tokens`).
    length: tokens per example, marks included; longer texts are cut.
    body_rate: learning rate of all layers but the head, as a multiple of the head's; 0 freezes them.
    layer_decay: factor on the rate from one layer to the one below it. frozen: number of lowest layers that are not
    trained, nor are the embeddings. dropout: before the head. pooling: what the head sees, "first" or "mean"; the
    latter suits a model that was trained for embeddings of sentences, whose dense layer on [CLS] was not.
    """

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    targets: ClassVar[tuple[str, ...]] = ("label", "text")
    lengths: ClassVar[tuple[str, ...]] = ("text", "pair")
    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)

    def __init__(
        self,
        model: Callable[..., nn.Module] | None = None,
        optimizer: Callable[..., Optimizer] = adamw,
        start: str | None = None,
        random: bool = False,
        length: Count = 128,
        body_rate: NonNegative = 1.0,
        layer_decay: Proportion = 1.0,
        frozen: Natural = 0,
        dropout: Fraction = 0.1,
        pooling: Literal["first", "mean"] = "first",
    ) -> None:
        self.finetuning = Finetuning(
            model, optimizer, start, random, length, body_rate, layer_decay, frozen, dropout, pooling
        )
        self.classes: list[str] = []
        self.columns: list[str] = []
        self.reader: TextReader

    def setup(self, spec: Spec) -> State:
        """Build the network with the weights of `start`."""
        spec.check_columns("SentenceClassification", "text", "label")
        self.classes = list(spec.classes)
        self.columns = [name for name in ("text", "pair") if name in spec.columns]
        built = self.finetuning.build(spec.tokenizers, outputs=len(self.classes))
        self.reader = built.reader
        return State(
            {"net": built.net},
            optimizers={"net": built.optimizer},
            tokenizers=built.reader.tokenizers,
            arguments=built.arguments,
        )

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy and the accuracy for texts with labels [B]."""
        rows = self._rows(shard.batch)
        label = shard.batch["label"]
        logits = self._logits(state, rows, label.device)
        accuracy = (logits.detach().argmax(1) == label).float().mean()
        return F.cross_entropy(logits, label), {"accuracy": accuracy}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"label": [B], "probability": [B, K]}; refuses texts of a request that are empty or too long."""
        rows = self._rows(batch)
        device = next(state.modules["net"].parameters()).device

        def predict(numbers: list[int]) -> list[Tensor]:
            return [self._logits(state, [rows[number] for number in numbers], device)]

        logits = torch.stack([result[0] for result in predict_by_length(rows, predict)])
        probability = logits.softmax(1)
        return {"label": probability.argmax(1), "probability": probability}

    def serving_inputs(self, batch: Batch) -> dict[str, Any]:
        """Return the texts of examples."""
        share = 1 / len(self.columns)
        return {name: [self.reader.shorten(text, share) for text in batch[name]] for name in self.columns}

    def _rows(self, batch: Batch) -> list[list[np.ndarray]]:
        return self.reader.read(batch, self.columns)

    def _logits(self, state: State, rows: list[list[np.ndarray]], device: torch.device) -> Tensor:
        """Return logits [B, K] of rows of tokens."""
        batch = self.reader.join(rows, device)
        logits: Tensor = state.modules["net"](batch.tokens, batch.segments, batch.valid)
        return logits.float()

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return accuracy, loss and Matthews' correlation and, for two classes, the F1 of the second."""
        label, predicted = targets["label"], predictions["label"]
        scores = classification_scores(predictions["probability"], label)
        scores["matthews"] = matthews_correlation(predicted, label)
        if len(self.classes) == 2:
            scores["f1"] = f1_score(predicted, label)
        return scores

    def outcomes(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> np.ndarray:
        """Return whether each prediction is correct: bool [N]."""
        return predictions["label"] == targets["label"]

    def constant(self, train: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        """Return the frequencies of the training labels as probabilities, and the most frequent label."""
        return constant_classes(train["label"], len(self.classes), count)

    def draw(self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, Any]:
        """Draw the confusion matrix, and list the wrong answers with the greatest probability."""
        from ..drawings import figures

        label, predicted = targets["label"], predictions["label"]
        counts = confusion_counts(predicted, label, len(self.classes))
        wrong = np.flatnonzero(predicted != label)
        worst = wrong[np.argsort(-predictions["probability"][wrong].max(1), kind="stable")][:SHOWN]
        lines = [
            f"{self.classes[label[row]]}, not {self.classes[predicted[row]]}"
            f" ({predictions['probability'][row].max():.2f}): {targets['text'][row]}"
            for row in worst
        ]
        drawn: dict[str, Any] = {"confusion": figures.draw_confusion(counts, self.classes, "Confusion")}
        return drawn | ({"mistakes": "\n".join(lines)} if lines else {})

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the body's weights come from."""
        return self.finetuning.describe()
