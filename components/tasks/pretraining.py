"""Pretraining of BERT: predict hidden tokens, and whether one passage follows another (notes: BERT)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import Refusal
from ..metrics.language import language_scores
from ..models.bert import PretrainingNet
from ..optimizers import adamw
from ..tokens.tokenizer import Tokenizer
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAD = 0  # number of the padding, in rows of tokens and among the targets
SAMPLE_LINES = 12


class Pretraining(Task):
    """Masked language model and next-sentence prediction on rows of `data.sentence_pairs.SentencePairs`.

    model: factory called with (vocabulary), such as `models.bert.BERT`.

    The loss is the sum of both cross-entropies. That of the passages is a mean over rows; it is weighted as if each row
    had all its tokens to predict, so that the sum does not depend on the shards.
    """

    monitor: ClassVar[tuple[str, str]] = ("perplexity", "min")
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    targets: ClassVar[tuple[str, ...]] = ("token", "position", "target", "unrelated")
    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)

    def __init__(self, model: Callable[..., nn.Module], optimizer: Callable[..., Optimizer] = adamw) -> None:
        self.model = model
        self.optimizer = optimizer
        self.tokenizer = Tokenizer("{}")
        self.length = 0

    def setup(self, spec: Spec) -> State:
        """Build the network for the vocabulary of the data."""
        if not {"token", "position", "target"} <= spec.columns.keys() or "token" not in spec.tokenizers:
            raise Refusal("task: Pretraining needs rows with hidden tokens; use data.sentence_pairs.SentencePairs")
        self.tokenizer = Tokenizer(spec.tokenizers["token"])
        (self.length,) = (side for side in spec.columns["token"] if side is not None)
        net = PretrainingNet(cast(Any, self.model(vocabulary=len(self.tokenizer))))
        if self.length > net.body.positions:
            raise Refusal(
                f"task.model.positions: {net.body.positions} are fewer than data.length: {self.length}; raise them"
            )
        return State(modules={"net": net}, optimizers={"net": self.optimizer(decay_groups(net))})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss in nats, and of the hidden tokens the loss and the accuracy: means over these tokens."""
        tokens, segments, positions, target = (
            shard.batch[name].long() for name in ("token", "segment", "position", "target")
        )
        logits, order, _ = state.modules["net"](tokens, segments, tokens != PAD, positions)
        logits, target = logits.float().flatten(0, 1), target.flatten()
        is_hidden = target != PAD
        hidden = is_hidden.sum()
        shard.weight = hidden
        count = hidden.clamp(min=1)
        hidden_loss = F.cross_entropy(logits, target, ignore_index=PAD, reduction="sum") / count
        order_loss = F.cross_entropy(order.float(), shard.batch["unrelated"].long(), reduction="sum")
        correct = ((logits.detach().argmax(1) == target) & is_hidden).sum() / count
        metrics = {"hidden_loss": hidden_loss.detach(), "hidden_accuracy": correct}
        return hidden_loss + order_loss * positions.shape[1] / count, metrics

    def predict(self, state: State, batch: Batch) -> dict[str, Any]:
        """Return of rows of data {"nll", "token": [B, M], "unrelated": [B]}; of texts what `fill_blanks` returns."""
        if "token" not in batch:
            return self.fill_blanks(state, list(batch["text"]))
        tokens, segments, positions, target = (
            batch[name].long() for name in ("token", "segment", "position", "target")
        )
        logits, order, _ = state.modules["net"](tokens, segments, tokens != PAD, positions)
        logits = logits.float()
        nll = F.cross_entropy(logits.transpose(1, 2), target, ignore_index=PAD, reduction="none")
        order = order.float()
        order_nll = F.cross_entropy(order, batch["unrelated"].long(), reduction="none")
        return {"nll": nll, "token": logits.argmax(2), "unrelated": order.argmax(1), "order_nll": order_nll}

    def fill_blanks(self, state: State, texts: list[str]) -> dict[str, Any]:
        """Return {"text" [B]: the texts with every [MASK] filled, "probability" [B]: of the least certain filling}."""
        rows = [self._encode(text) for text in texts]
        tokens = torch.full((len(rows), max(map(len, rows))), PAD)
        for row, numbers in zip(tokens, rows, strict=True):
            row[: len(numbers)] = torch.from_numpy(numbers)
        device = next(state.modules["net"].parameters()).device
        tokens = tokens.to(device)
        everywhere = torch.arange(tokens.shape[1], device=device).expand_as(tokens)
        logits = state.modules["net"](tokens, torch.zeros_like(tokens), tokens != PAD, everywhere)[0]
        probability, filling = logits.float().softmax(2).max(2)
        is_blank = tokens == self.tokenizer.number("[MASK]")
        filled = torch.where(is_blank, filling, tokens).cpu().numpy()
        certain = torch.where(is_blank, probability, 1.0).amin(1)
        texts = [self.tokenizer.decode(row[1 : len(numbers) - 1]) for row, numbers in zip(filled, rows, strict=True)]
        return {"text": np.array(texts), "probability": certain}

    def _encode(self, text: str) -> np.ndarray:
        """Return [CLS], the tokens and [SEP]; refuses a text that is empty, too long or entirely unknown."""
        numbers = self.tokenizer.encode(text)
        if not 1 <= len(numbers) <= self.length - 2:
            raise Refusal(
                f"text: {text[:40]!r} has {len(numbers)} tokens; this model takes 1 to {self.length - 2}: change it"
            )
        if (numbers == self.tokenizer.number("[UNK]")).all():
            raise Refusal(f"text: {text[:40]!r} has no character that this model knows; send another text")
        return np.array([self.tokenizer.number("[CLS]"), *numbers, self.tokenizer.number("[SEP]")])

    def serving_inputs(self, batch: Batch) -> dict[str, Any]:
        """Return rows of data as texts with blanks, without what follows the first passage."""
        sep = self.tokenizer.number("[SEP]")
        rows = [row[1 : row.index(sep)] for row in batch["token"].tolist()]
        return {"text": [self.tokenizer.decode(row) for row in rows]}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return perplexity, loss and accuracy of the hidden tokens; accuracy of the passages, and of a constant."""
        is_hidden = targets["target"] != PAD
        unrelated = targets["unrelated"]
        correct = predictions["token"][is_hidden] == targets["target"][is_hidden]
        share = float(unrelated.mean())
        return language_scores(predictions["nll"][is_hidden]) | {
            "accuracy": float(correct.mean()),
            "order_accuracy": float((predictions["unrelated"] == unrelated).mean()),
            "order_majority": max(share, 1 - share),
            "order_loss": float(predictions["order_nll"].mean()),
        }

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Return texts with blanks, what was hidden there, and what the model says."""
        lines = []
        vocabulary = self.tokenizer.vocabulary
        for row in np.linspace(0, len(targets["token"]) - 1, min(SAMPLE_LINES, len(targets["token"]))).astype(int):
            tokens = targets["token"][row]
            lines.append(self.tokenizer.decode(tokens[tokens != PAD]))
            for place, target, token in zip(
                targets["position"][row], targets["target"][row], predictions["token"][row], strict=True
            ):
                if target != PAD:
                    verdict = "right" if target == token else f"WRONG, it was {vocabulary[target]}"
                    lines.append(f"    {place:3d}  {vocabulary[tokens[place]]} -> {vocabulary[token]}  {verdict}")
            followed = "another document" if predictions["unrelated"][row] else "the same document"
            right = predictions["unrelated"][row] == targets["unrelated"][row]
            lines.append(f"    the second passage is from {followed}: {'right' if right else 'WRONG'}\n")
        return {"blanks": "\n".join(lines)}


def decay_groups(net: nn.Module) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimiser: weights, then biases and norms without weight decay."""
    trained = [p for p in net.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
