"""Similarity of two sentences, or a score of one: BERT with a single output on [CLS] (notes: fine-tuning)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..metrics.agreement import pearson_correlation, spearman_correlation
from ..models.finetuning import Finetuning, TextReader, predict_by_length
from ..optimizers import adamw
from ..recipes.ranges import Count, Fraction, Natural, NonNegative, Proportion
from ..training.task import Batch, Shard, Spec, State, Task


class SentenceRegression(Task):
    """Prediction of the column "score" from "text", or from "text" and "pair" together.

    The arguments are those of `tasks.sentences.SentenceClassification`.
    """

    monitor: ClassVar[tuple[str, str]] = ("spearman", "max")
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    targets: ClassVar[tuple[str, ...]] = ("score",)
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
        self.columns: list[str] = []
        self.reader: TextReader

    def setup(self, spec: Spec) -> State:
        """Build the network with the weights of `start`."""
        spec.check_columns("SentenceRegression", "text", "score")
        self.columns = [name for name in ("text", "pair") if name in spec.columns]
        built = self.finetuning.build(spec.tokenizers, outputs=1)
        self.reader = built.reader
        return State(
            {"net": built.net},
            optimizers={"net": built.optimizer},
            tokenizers=built.reader.tokenizers,
            arguments=built.arguments,
        )

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error for texts with scores [B]."""
        score = shard.batch["score"].float()
        predicted = self._predict(state, self._rows(shard.batch), score.device)
        return F.mse_loss(predicted, score), {}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"score": [B]}; refuses texts of a request that are empty or too long."""
        rows = self._rows(batch)
        device = next(state.modules["net"].parameters()).device

        def predict(numbers: list[int]) -> list[Tensor]:
            return [self._predict(state, [rows[number] for number in numbers], device)]

        return {"score": torch.stack([result[0] for result in predict_by_length(rows, predict)])}

    def serving_inputs(self, batch: Batch) -> dict[str, Any]:
        """Return the texts of examples."""
        share = 1 / len(self.columns)
        return {name: [self.reader.shorten(text, share) for text in batch[name]] for name in self.columns}

    def _rows(self, batch: Batch) -> list[list[np.ndarray]]:
        return self.reader.read(batch, self.columns)

    def _predict(self, state: State, rows: list[list[np.ndarray]], device: torch.device) -> Tensor:
        """Return scores [B] of rows of tokens."""
        batch = self.reader.join(rows, device)
        scores: Tensor = state.modules["net"](batch.tokens, batch.segments, batch.valid)
        return scores.float()[:, 0]

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return the correlations of Pearson and Spearman, and the mean squared error as loss."""
        predicted, score = predictions["score"].astype(np.float64), targets["score"].astype(np.float64)
        return {
            "spearman": spearman_correlation(predicted, score),
            "pearson": pearson_correlation(predicted, score),
            "loss": float(((predicted - score) ** 2).mean()),
        }

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return where the body's weights come from."""
        return self.finetuning.describe()
