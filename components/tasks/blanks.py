"""Fill in the blanks of a text: predict hidden tokens from those before and after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..metrics.language import language_scores
from ..optimizers import adamw
from ..recipes.ranges import Natural, Open
from ..storage.order import keyed_uniforms
from ..storage.vocabulary import UNKNOWN
from ..tokens.vocabulary import open_tokenizer
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLANK = 0  # the number of the unknown token, which stands for a hidden one
EVALUATION = -1  # stands for the step in the key of blanks that are scored


class FillBlanks(Task):
    """Prediction of hidden tokens from all others in a window; a bidirectional model sees both sides of a blank.

    model: factory called with (classes), as for `tasks.language.LanguageModel`.
    blanks: share of the tokens that are hidden. Which ones are follows from the row and the step; in an evaluation from
    the row alone.
    sample: windows in the sample of filled texts.
    """

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ("token",)

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adamw,
        blanks: Open = 0.15,
        sample: Natural = 8,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.blanks = blanks
        self.sample = sample
        self.classes: list[str] = []
        self.tokenizers: dict[str, str] = {}

    def setup(self, spec: Spec) -> State:
        """Build the network."""
        self.classes = list(spec.classes)
        self.tokenizers = spec.tokenizers
        net = self.model(classes=len(self.classes))
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cross-entropy in nats and accuracy: means over the blanks of windows [B, T]."""
        tokens = shard.batch["token"].long()
        blank = self._blank_positions(tokens, shard.batch["row"], state.step)
        logits = state.modules["net"](tokens.masked_fill(blank, BLANK))[0][blank].float()
        shard.weight = blank.sum()
        count = shard.weight.clamp(min=1)
        labels = tokens[blank]
        correct = (logits.detach().argmax(1) == labels).sum()
        return F.cross_entropy(logits, labels, reduction="sum") / count, {"accuracy": correct / count}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"token": [B, T], "blank": bool [B, T], "nll": [B, T]}: the windows with their blanks filled.

        With row numbers, blanks are drawn and "nll" is the loss of the hidden tokens, elsewhere 0. Without them, as
        served, the tokens that are BLANK are filled.
        """
        tokens = batch["token"].long()
        blank = self._blank_positions(tokens, batch["row"], EVALUATION) if "row" in batch else tokens == BLANK
        logits = state.modules["net"](tokens.masked_fill(blank, BLANK))[0].float()
        nll = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        logits[..., BLANK] = -torch.inf  # an unknown token fills no blank
        filled = torch.where(blank, logits.argmax(2), tokens)
        return {"token": filled.int(), "blank": blank, "nll": nll.masked_fill(~blank, 0.0)}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return accuracy, perplexity, loss and bits per blank."""
        blank = predictions["blank"]
        correct = predictions["token"][blank] == targets["token"][blank]
        return {"accuracy": float(correct.mean())} | language_scores(predictions["nll"][blank])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Return some windows: the truth, with its blanks as _, and as it was filled."""
        tokenizer = open_tokenizer(self.tokenizers, "token", self.classes)
        lines = []
        for row in np.linspace(0, len(targets["token"]) - 1, self.sample).astype(int):
            truth = targets["token"][row]
            hidden = np.where(predictions["blank"][row], BLANK, truth)
            texts = [tokenizer.decode(numbers.tolist()) for numbers in (truth, hidden, predictions["token"][row])]
            lines += [texts[0], texts[1].replace(UNKNOWN, "_"), texts[2], ""]
        return {"filled": "\n".join(lines)}

    def _blank_positions(self, tokens: Tensor, rows: Tensor, step: int) -> Tensor:
        """Return which of the known tokens [B, T] of the rows [B] are hidden in a step: bool [B, T]."""
        draws = keyed_uniforms(rows.cpu().numpy(), tokens.shape[1], step + 1, 11)
        blank = torch.from_numpy(draws < self.blanks).to(tokens.device)
        return blank & (tokens != BLANK)
