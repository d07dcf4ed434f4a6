"""Neural language models: predict the next token from all tokens before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..data.text import continues_previous
from ..decoding.sampling import sampling_distribution
from ..errors import Refusal
from ..metrics.language import language_scores
from ..optimizers import adamw
from ..recipes.ranges import Natural, NonNegative, Proportion
from ..tokens.vocabulary import open_tokenizer
from ..training.task import Batch, Shard, Spec, State, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PADDING = -1  # after the end of a sequence that is shorter than a window


class LanguageModel(Task):
    """A language model, recurrent or a GPT, trained by back-propagation through windows of `steps` tokens.

    model: factory called with (classes); it maps (tokens [B, T], states) to (logits [B, T, K], states). A model with a
    `context` (GPT) reads each window as a text of its own.
    carry: if a window's row follows the previous step's, it starts with the states (without gradients) in which that
    step ended. Use it with `fit.order: sequential` (notes: sequential partitioning). Without it, every window starts
    with empty states (random partitioning).
    prefix, sample: the sampled text is `prefix` followed by `sample` tokens, drawn from a stream of the run's seed.
    temperature, top_k, top_p: of the sampled text (`decoding/sampling.py`).

    Set `fit.clip` to bound the gradient.
    """

    monitor: ClassVar[tuple[str, str]] = ("perplexity", "min")
    inputs: ClassVar[tuple[str, ...]] = ("token",)
    targets: ClassVar[tuple[str, ...]] = ()
    sequential: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adamw,
        carry: bool = False,
        prefix: str = "the ",
        sample: Natural = 400,
        temperature: NonNegative = 1.0,
        top_k: Natural = 0,
        top_p: Proportion = 1.0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.carry = carry
        self.prefix = prefix
        self.sample = sample
        self.sampling: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.classes: list[str] = []
        self.tokenizers: dict[str, str] = {}

    def setup(self, spec: Spec) -> State:
        """Build the network; Refusal if it is bidirectional, or if its context does not suit the windows."""
        self.classes = list(spec.classes)
        self.tokenizers = spec.tokenizers
        net = self.model(classes=len(self.classes))
        if getattr(net, "bidirectional", False):
            raise Refusal(
                "task.model.bidirectional: such a model sees the token that it must predict; leave it false for a"
                " language model, or fill blanks with it (tasks.blanks.FillBlanks)"
            )
        self._check_context(getattr(net, "context", None), spec.columns["token"][0])
        seed = np.array([torch.initial_seed()], dtype=np.uint64).view(np.int64)
        return State({"net": net}, optimizers={"net": self.optimizer(net.parameters())}, tables={"seed": seed})

    def _check_context(self, context: int | None, window: int | None) -> None:
        """Refuse a `carry` or a window of `window` tokens that a model with this context cannot have."""
        if context is None:
            return
        if self.carry:
            raise Refusal("task.carry: a model with a context carries no state between windows; leave it false")
        if window is not None and window - 1 > context:
            raise Refusal(
                f"task.model.context: {context} is smaller than windows of data.steps: {window - 1}; make them equal"
            )

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats and the accuracy for windows of tokens [B, steps + 1]."""
        tokens = shard.batch["token"].long()
        row = shard.batch["row"]
        states = {name: carried for name, carried in shard.carry.items() if name != "row"}
        if states:
            continues = row == shard.carry["row"] + 1
            states = {name: carried * continues.view(-1, 1, 1) for name, carried in states.items()}
        logits, states = state.modules["net"](tokens[:, :-1], states)
        if self.carry:
            shard.carry["row"] = row
            shard.carry |= {name: after.detach().contiguous() for name, after in states.items()}
        logits = logits.float().flatten(0, 1)
        targets = tokens[:, 1:].reshape(-1)
        accuracy = (logits.detach().argmax(1) == targets).float().mean()
        return F.cross_entropy(logits, targets), {"accuracy": accuracy}

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"nll": [B, steps], "log_likelihood": [B], "token": [B]}.

        nll: of each token, given those before it. log_likelihood: of the window after its first token, in nats; of two
        sentences the one with the greater value is likelier. token: the most probable one at the end of the window,
        given those before it.

        Windows with consecutive row numbers form one text, through which the states are carried. Without row numbers,
        each window is a text of its own. Padding after a sequence (PADDING) has a loss of 0.
        """
        tokens = batch["token"].long()
        is_padding = tokens == PADDING
        tokens = tokens.clamp(min=0)
        continues = torch.zeros(len(tokens) + 1, dtype=torch.bool)
        if "row" in batch and not hasattr(state.modules["net"], "context"):
            continues[:-1] = torch.from_numpy(continues_previous(batch["row"].cpu().numpy()))
        nll = torch.empty(tokens[:, 1:].shape, device=tokens.device)
        token = torch.empty_like(tokens[:, 0])
        last = (~is_padding).sum(1).clamp(min=2) - 2  # the position whose logits predict the last token
        # First process the first window of every text, then the second window of those that have one, and so on.
        current = (~continues[:-1]).nonzero()[:, 0]
        states: dict[str, Tensor] = {}
        while len(current):
            window = tokens[current.to(tokens.device)]
            logits, states = state.modules["net"](window[:, :-1], states)
            logits = logits.float()
            nll[current] = F.cross_entropy(logits.transpose(1, 2), window[:, 1:], reduction="none")
            token[current] = logits[torch.arange(len(logits)), last[current]].argmax(1)
            has_next = continues[current + 1]
            current = current[has_next] + 1
            states = {name: after[has_next.to(after.device)] for name, after in states.items()}
        nll = nll.masked_fill(is_padding[:, 1:], 0.0)
        return {"nll": nll, "log_likelihood": -nll.sum(1), "token": token}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return perplexity, loss and bits per token."""
        return language_scores(predictions["nll"])

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Return a sampled text."""
        return {"sample": self._sample_text(state)}

    @torch.no_grad()
    def _sample_text(self, state: State) -> str:
        net = state.modules["net"]
        device = next(net.parameters()).device
        random = np.random.default_rng(state.tables["seed"].view(np.uint64))
        tokenizer = open_tokenizer(self.tokenizers, "token", self.classes)
        # A network needs at least one token to start from.
        numbers = tokenizer.encode(self.prefix).tolist() or [0]
        unread = numbers[-getattr(net, "context", len(numbers)) :]
        states: dict[str, Tensor] = {}
        for _ in range(self.sample):
            logits, states = net(torch.tensor([unread], device=device), states)
            p = sampling_distribution(logits[0, -1].float().cpu().numpy(), **self.sampling)
            unread = [int(random.choice(len(p), p=p))]
            numbers = numbers + unread
        return tokenizer.decode(numbers)
