"""Fine-tune a translator for BLEU itself, which has no gradient: self-critical training (Rennie et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..decoding.beam import beam_search, possible_log_p
from ..metrics.translation import sentence_bleu
from ..models.pretrained import load_net, refuse_difference
from ..optimizers import adam
from ..recipes.ranges import Count, Fraction, NonNegative
from ..storage.order import keyed_uniforms
from ..storage.vocabulary import BOS, EOS, PAD
from ..training.exported import WEIGHTS_FILE
from ..training.task import Batch, Shard, Spec, State, Task
from .translation import Translation, shift_right

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SelfCritical(Task):
    """Policy gradient (REINFORCE) whose reward is the BLEU of a sampled translation, minus that of the greedy one.

    start: folder of the exported translator from which training starts, with the same `model` and data.
    likelihood: share of the cross-entropy of the true translation in the objective (Wu et al. 2016).
    beam, penalty: as for `tasks.translation.Translation`, which also scores and draws.

    The loss is the negative mean reward plus the cross-entropy's share; without dropout, its gradient is an unbiased
    estimate of that of the expected reward. Samples follow from row and step, so they do not depend on the shards. The
    greedy translation is that of an evaluation, without dropout.
    """

    monitor: ClassVar[tuple[str, str]] = Translation.monitor
    inputs: ClassVar[tuple[str, ...]] = Translation.inputs
    targets: ClassVar[tuple[str, ...]] = Translation.targets
    lengths: ClassVar[tuple[str, ...]] = ("target", "source")

    def __init__(
        self,
        model: Callable[..., nn.Module],
        start: str | None = None,
        optimizer: Callable[..., Optimizer] = adam,
        likelihood: Fraction = 0.1,
        beam: Count = 1,
        penalty: NonNegative = 0.75,
    ) -> None:
        self.start = start
        self.likelihood = likelihood
        self.translation = Translation(model, optimizer, beam=beam, penalty=penalty)

    def setup(self, spec: Spec) -> State:
        """Build the network and copy all weights of `start`; Refusal if they do not fit."""
        state = self.translation.setup(spec)
        if self.start is not None:
            net, file = state.modules["net"], Path(self.start) / WEIGHTS_FILE
            weights = load_net(file, "task.start")
            refuse_difference(weights, net.state_dict(), file, "task.start")
            net.load_state_dict(weights)
        return state

    def objective(self) -> str | None:
        """Return None: no score is the training loss."""
        return None

    def loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return minus the mean reward plus the cross-entropy's share, and the rewards of samples and greedy ones."""
        net: Any = state.modules["net"]
        source, target = (shard.batch[name].long() for name in ("source", "target"))
        uniforms = keyed_uniforms(shard.batch["row"].cpu().numpy(), target.shape[1], state.step, 14)
        with torch.no_grad():
            sampled = sample_translations(net, source, torch.from_numpy(uniforms).to(source.device))
            with evaluation_mode(net):
                greedy, _ = beam_search(
                    net.decode, net.start(source), begin=BOS, end=EOS, pad=PAD, length=target.shape[1], beam=1
                )
        reward, baseline = (self._rewards(tokens, target) for tokens in (sampled, greedy))
        surrogate = -((reward - baseline) * sequence_log_p(net, source, sampled)).mean()
        # the value of the first term is the reward, its gradient that of the surrogate
        loss = surrogate - surrogate.detach() - reward.mean()
        if self.likelihood:
            logits = net(source, shift_right(target)).float().transpose(1, 2)
            nll = F.cross_entropy(logits, target, ignore_index=PAD, reduction="none").sum(1)
            loss = loss + self.likelihood * (nll / (target != PAD).sum(1).clamp(min=1)).mean()
        return loss, {"reward": reward.mean(), "greedy_reward": baseline.mean()}

    def _rewards(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Return the BLEU of each translation [B, T] of `target` [B, T], as scores count its words: float32 [B]."""
        sentences = self.translation.sentences(tokens, target)
        rewards = [sentence_bleu(translation, truth) for translation, truth in zip(*sentences, strict=True)]
        return torch.tensor(rewards, dtype=torch.float32, device=tokens.device)

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return what `Translation.predict` returns."""
        return self.translation.predict(state, batch)

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return what `Translation.score` returns."""
        return self.translation.score(predictions, targets)

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Return what `Translation.draw` returns."""
        return self.translation.draw(state, predictions, targets)

    def tags(self, state: State, scores: dict[str, float]) -> dict[str, str]:
        """Return the signature of BLEU, and where the weights started."""
        return self.translation.tags(state, scores) | ({"start": self.start} if self.start else {})


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Put all layers into evaluation mode while the block runs, and restore the mode of each afterwards."""
    modes = [(layer, layer.training) for layer in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def sample_translations(net: Any, source: Tensor, uniforms: Tensor) -> Tensor:
    """Draw a translation of each source [B, S], padded after <eos>: int64 [B, T].

    uniforms: [B, T] from [0, 1); each token is the one whose stretch of the cumulative distribution holds its number.
    """
    count, length = uniforms.shape
    tokens = torch.full((count, length), PAD, device=source.device)
    ended = torch.zeros(count, dtype=torch.bool, device=source.device)
    states = net.start(source)
    newest = torch.full((count, 1), BOS, device=source.device)
    for at in range(length):
        logits, states = net.decode(newest, states)
        cumulative = possible_log_p(logits[:, -1].float(), BOS, PAD).exp().double().cumsum(1)
        # the last sum may be a little below 1
        drawn = (uniforms[:, at, None] * cumulative[:, -1:] >= cumulative).sum(1)
        tokens[:, at] = torch.where(ended, PAD, drawn)
        ended = ended | (drawn == EOS)
        newest = drawn[:, None]
        if bool(ended.all()):
            break
    return tokens


def sequence_log_p(net: Any, source: Tensor, tokens: Tensor) -> Tensor:
    """Return the log probability [B] of translations [B, T] without padding, where <bos> and padding are impossible."""
    logits = net(source, shift_right(tokens)).float()
    log_p = possible_log_p(logits.flatten(0, 1), BOS, PAD).unflatten(0, logits.shape[:2])
    chosen = log_p.gather(2, tokens.masked_fill(tokens == PAD, EOS)[..., None])[..., 0]
    return torch.where(tokens != PAD, chosen, 0.0).sum(1)
