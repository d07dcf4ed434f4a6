"""Neural language models: the next token from all before it, by back-propagation through a window of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.text import continues_previous, decode_text, encode_tokens, token_kind, tokenize
from ..errors import Refusal
from ..metrics.language import language_scores
from ..optimizers import adamw
from ..recipes.ranges import Natural
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LanguageModel(Task):
    """Truncated back-propagation through time, a window of `steps` tokens long.

    model: factory called with (classes); it maps (tokens [B, T], states) to (logits [B, T, K], states). carry: a window
    begins with the states that the step before ended with, without their gradients, where its row follows that step's:
    for `fit.order: sequential` (notes: sequential partitioning); else every window begins from nothing (random
    partitioning). fit.clip bounds the gradient. prefix, sample: the sampled text begins with the one and has so many
    tokens more.
    """

    monitor: ClassVar[tuple[str, str]] = ("perplexity", "min")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable = adamw,
        carry: bool = False,
        prefix: str = "the ",
        sample: Natural = 400,
    ) -> None:
        self.model, self.optimizer, self.carry = model, optimizer, carry
        self.prefix, self.sample = prefix, sample
        self.classes: list[str] = []

    def setup(self, spec: Spec) -> State:
        self.classes = list(spec.classes)
        net = self.model(classes=len(self.classes))
        if getattr(net, "bidirectional", False):
            raise Refusal(
                "task.model.bidirectional: such a model sees the token it is to predict; leave it false for a language"
                " model (it is for features and for filling blanks)"
            )
        return State(modules={"net": net}, optimizers={"net": self.optimizer(net.parameters())})

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Windows of tokens [B, steps + 1] -> cross-entropy in nats, accuracy."""
        tokens, row = shard.batch["token"].long(), shard.batch["row"]
        states = {name: carried for name, carried in shard.carry.items() if name != "row"}
        if states:
            goes_on = row == shard.carry["row"] + 1
            states = {name: carried * goes_on.view(-1, 1, 1) for name, carried in states.items()}
        logits, states = state.modules["net"](tokens[:, :-1], states)
        if self.carry:
            shard.carry.update({"row": row, **{name: after.detach().contiguous() for name, after in states.items()}})
        logits, targets = logits.float().flatten(0, 1), tokens[:, 1:].reshape(-1)
        right = (logits.detach().argmax(1) == targets).float().mean()
        return F.cross_entropy(logits, targets), {"accuracy": right}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """{"nll": [B, steps], "token": [B], the most probable one after the window}.

        Windows whose rows follow each other are one text, the states carried through it; without their rows' numbers
        each stands alone.
        """
        tokens = batch["token"].long()
        alone = torch.zeros(len(tokens), dtype=torch.bool)
        goes_on = torch.from_numpy(continues_previous(batch["row"].cpu().numpy())) if "row" in batch else alone
        nll = torch.empty(tokens[:, 1:].shape, device=tokens.device)
        token = torch.empty_like(tokens[:, 0])
        now = (~goes_on).nonzero()[:, 0]
        states: dict[str, Tensor] = {}
        while len(now):  # the first window of every text, the second one of those that have it, ...
            window = tokens[now.to(tokens.device)]
            logits, states = state.modules["net"](window[:, :-1], states)
            logits = logits.float()
            nll[now] = F.cross_entropy(logits.transpose(1, 2), window[:, 1:], reduction="none")
            token[now] = logits[:, -1].argmax(1)
            more = torch.cat([goes_on, alone[:1]])[now + 1]
            now, states = now[more] + 1, {name: after[more.to(after.device)] for name, after in states.items()}
        return {"nll": nll, "token": token}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        return language_scores(predictions["nll"])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """A sampled text."""
        return {"sample": self.sampled(state)}

    @torch.no_grad()
    def sampled(self, state: State) -> str:
        net = state.modules["net"]
        device = next(net.parameters()).device
        random = np.random.default_rng(0)
        numbers = encode_tokens(tokenize(self.prefix, token_kind(self.classes)), self.classes).tolist() or [0]
        unread = numbers
        states: dict[str, Tensor] = {}
        for _ in range(self.sample):
            logits, states = net(torch.tensor([unread], device=device), states)
            p = logits[0, -1].double().softmax(0).cpu().numpy()
            unread = [int(random.choice(len(p), p=p / p.sum()))]
            numbers = numbers + unread
        return decode_text(numbers, self.classes)
