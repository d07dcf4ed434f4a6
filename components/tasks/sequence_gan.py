"""Sequence GAN: a text generator that is rewarded by a discriminator.

Tokens are drawn, so no gradient reaches the generator through them (notes: 'GAN for sequence generation'). Instead each
token's log probability is weighted by the reward that follows it (policy gradient; Yu et al. 2017, SeqGAN). The
discriminator judges after every token, and the rewards are compared with those of other sequences at the same place:
with these two, training also works from scratch (de Masson d'Autume et al. 2019, ScratchGAN).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..data.parallel import decode_text
from ..errors import Refusal
from ..metrics.diversity import sequence_scores
from ..optimizers import adam
from ..recipes.ranges import Count, Fraction, Natural, NonNegative, Positive
from ..storage.vocabulary import BOS, EOS, PAD, UNK, split_vocabularies
from ..training.task import Batch, Shard, Spec, State, Task, Update
from . import adversarial
from .row_facts import read_facts, repeat_facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE_LINES = 40
NEVER_DRAWN = (PAD, UNK, BOS)
# Samples of `fit.batch` sentences whose mean is the reward after the likelihood phase, because a single one is noisy.
REWARD_SAMPLES = 4


class Grammar(Protocol):
    """A judge of sentences, such as `data.number_words.EnglishNumbers`."""

    def is_valid(self, text: str) -> bool:
        """Return whether a sentence is valid."""


class SequenceGan(Task):
    """A generator of the sentences in column "source" of `data.parallel.Parallel`, against a discriminator.

    generator(classes=): a factory, see `models/recurrent.py`; discriminator(classes=): see
    `models/sequence_discriminator.py`. pretrain: steps at the start in which the generator maximises the likelihood of
    the real sentences; 0 starts from scratch. discount: of a reward per token between it and what it rewards. entropy:
    weight of the entropy of the next token, which keeps the generator from settling early. grammar: what says whether a
    sentence is valid; it is never trained on. critic_steps, generator_rate: as for `tasks.adversarial.Adversarial`.

    A served model takes {"row": int64 [B]}: each row number names one sentence, always the same.
    """

    monitor: ClassVar[tuple[str, str]] = ("bigram_f1", "max")
    inputs: ClassVar[tuple[str, ...]] = ("row",)
    targets: ClassVar[tuple[str, ...]] = ("source",)

    def __init__(
        self,
        generator: Callable[..., nn.Module],
        discriminator: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer] = adam,
        pretrain: Natural = 0,
        discount: Fraction = 0.9,
        entropy: NonNegative = 0.01,
        grammar: Callable[[], Grammar] | None = None,
        critic_steps: Count = 1,
        generator_rate: Positive = 1.0,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.pretrain = pretrain
        self.discount = discount
        self.entropy = entropy
        self.grammar = None if grammar is None else grammar()
        self.critic_steps = critic_steps
        self.generator_rate = generator_rate
        self.vocabulary: list[str] = []
        self.length = 0

    def setup(self, spec: Spec) -> State:
        """Build both networks for the vocabulary of the sources, with one optimiser each."""
        spec.check_columns("SequenceGan", "source")
        self.vocabulary = split_vocabularies(spec.classes)[0]
        (self.length,) = (side for side in spec.columns["source"] if side is not None)
        classes = len(self.vocabulary)
        modules = {"discriminator": self.discriminator(classes=classes), "generator": self.generator(classes=classes)}
        if getattr(modules["generator"], "bidirectional", False):
            raise Refusal("task.generator.bidirectional: a generator can't see later tokens; leave it false")
        return adversarial.rivals(modules, self.optimizer, self.generator_rate)

    def step(self, state: State, update: Update) -> dict[str, Tensor]:
        """Return what `adversarial.alternate` returns; the generator's metric is `generator_reward`."""
        if state.step < self.pretrain:
            return adversarial.alternate(update, self.critic_steps, self.discriminator_loss, self.likelihood_loss)
        if self.pretrain and state.step == self.pretrain:
            rewards = [update.mean(self._mean_reward)[0] for _ in range(REWARD_SAMPLES)]
            state.tables["reward_before"] = torch.stack(rewards).mean().reshape(1).cpu().numpy()
        # An independent sample, so that the baseline does not depend on the actions it is compared with.
        total, share = update.mean(self._returns)
        loss = partial(self.policy_loss, baseline=total / share.clamp(min=1e-6))
        return adversarial.alternate(update, self.critic_steps, self.discriminator_loss, loss)

    def discriminator_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss over the tokens of real and generated sentences, and D's mean output on both."""
        net = state.modules["discriminator"]
        real, fake = shard.batch["source"].long(), self._sample(state, shard)
        real_logits, fake_logits = net(real).float(), net(fake).float()
        loss = token_mean(F.softplus(-real_logits), real) + token_mean(F.softplus(fake_logits), fake)
        metrics = {"real": token_mean(real_logits.sigmoid(), real), "fake": token_mean(fake_logits.sigmoid(), fake)}
        return loss.mean(), {name: value.detach().mean() for name, value in metrics.items()}

    def likelihood_loss(self, state: State, shard: Shard) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log likelihood per token of the real sentences, and the reward of generated ones.

        Unknown tokens are read, but not learned: the generator never draws them.
        """
        real = shard.batch["source"].long()
        log_probability, _ = self._log_probabilities(state, real)
        reward = self._rewards(state, self._sample(state, shard))
        learned = real.masked_fill(real == UNK, PAD)
        return -token_mean(log_probability, learned).mean(), {"reward": reward}

    def policy_loss(self, state: State, shard: Shard, baseline: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss whose gradient is the policy gradient (REINFORCE, Williams 1992), and the mean reward.

        baseline [T]: the expected return at each position.
        """
        tokens = self._sample(state, shard)
        advantage = discounted_returns(self._signals(state, tokens), self.discount) - baseline
        log_probability, entropy = self._log_probabilities(state, tokens)
        gain = token_mean(log_probability * advantage + self.entropy * entropy, tokens)
        return -gain.mean(), {"reward": self._rewards(state, tokens)}

    def _returns(self, state: State, shard: Shard) -> list[Tensor]:
        """Return, of generated sentences, the mean return at each position [T], and the share that is so long [T]."""
        tokens = self._sample(state, shard)
        is_token = (tokens != PAD).float()
        returns = discounted_returns(self._signals(state, tokens), self.discount)
        return [(returns * is_token).mean(0), is_token.mean(0)]

    def _mean_reward(self, state: State, shard: Shard) -> list[Tensor]:
        """Return the mean reward of generated sentences []."""
        return [self._rewards(state, self._sample(state, shard))]

    @torch.no_grad()
    def _signals(self, state: State, tokens: Tensor) -> Tensor:
        """Return the reward after each token, -1 to 1, and 0 for padding: [B, T]."""
        return (2 * state.modules["discriminator"](tokens).float().sigmoid() - 1) * (tokens != PAD)

    @torch.no_grad()
    def _rewards(self, state: State, tokens: Tensor) -> Tensor:
        """Return the mean of D's output over all sentences, and over the tokens of each."""
        return token_mean(state.modules["discriminator"](tokens).float().sigmoid(), tokens).mean()

    def _sample(self, state: State, shard: Shard) -> Tensor:
        noise = adversarial.draw_latents(len(shard.batch["row"]), self.length, shard)
        return self._decode(state, noise)

    @torch.no_grad()
    def _decode(self, state: State, noise: Tensor) -> Tensor:
        """Return one sentence per row of standard normal numbers [B, T]: tokens [B, T] with <eos> and padding."""
        net: Any = state.modules["generator"]
        uniform = torch.special.ndtr(noise.double())
        token = torch.full_like(noise[:, :1], BOS, dtype=torch.int64)
        ended = torch.zeros_like(token[:, 0], dtype=torch.bool)
        states: dict[str, Tensor] = {}
        tokens = []
        for position in range(self.length):
            logits, states = net(token, states)
            cumulated = self._mask(logits[:, -1].float()).double().softmax(1).cumsum(1)
            drawn = (cumulated < uniform[:, position : position + 1] * cumulated[:, -1:]).sum(1)
            drawn = drawn.masked_fill(ended, PAD)
            ended = ended | (drawn == EOS)
            tokens.append(drawn)
            token = drawn[:, None]
        return torch.stack(tokens, dim=1)

    def _mask(self, logits: Tensor) -> Tensor:
        """Return logits [..., K] in which what is never drawn has no probability."""
        never = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        never[list(NEVER_DRAWN)] = True
        return logits.masked_fill(never, -torch.inf)

    def _log_probabilities(self, state: State, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log probability of each token and the entropy of its distribution [B, T], 0 for padding."""
        inputs = torch.cat([torch.full_like(tokens[:, :1], BOS), tokens[:, :-1]], dim=1)
        log_p = self._mask(state.modules["generator"](inputs)[0].float()).log_softmax(2)
        is_token = tokens != PAD
        taken_log_p = log_p.gather(2, tokens.clamp(min=EOS)[..., None]).squeeze(2)
        entropy = -(log_p.exp() * log_p.masked_fill(log_p.isinf(), 0)).sum(2)
        return taken_log_p * is_token, entropy * is_token

    def predict(self, state: State, batch: Batch) -> dict[str, Tensor]:
        """Return {"token": int32 [B, T], "reward": [B]}; a row number names the random numbers of its sentence.

        After a likelihood phase, add the reward at its end, repeated in each row: "reward_before" [B].
        """
        noise = torch.from_numpy(adversarial.latents(batch["row"].cpu().numpy(), self.length)).to(batch["row"].device)
        tokens = self._decode(state, noise)
        reward = token_mean(state.modules["discriminator"](tokens).sigmoid(), tokens)
        predictions = {"token": tokens.int(), "reward": reward}
        facts = {name: float(value[0]) for name, value in state.tables.items()}
        return repeat_facts(predictions, facts)

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        """Return reward, the scores of `sequence_scores` and, with a grammar, valid: the share of valid sentences.

        After a likelihood phase, add reward_before: the reward at its end, by the discriminator of that time.
        """
        scores = {"reward": float(predictions["reward"].mean())}
        scores |= read_facts(predictions, predictions.keys() & {"reward_before"})
        scores |= sequence_scores(predictions["token"], targets["source"], ignored=(PAD,))
        if self.grammar is not None:
            scores["valid"] = float(
                np.mean([self.grammar.is_valid(text) for text in self._texts(predictions["token"])])
            )
        return scores

    def draw(
        self, state: State, predictions: dict[str, np.ndarray], targets: dict[str, Any]
    ) -> dict[str, Figure | str]:
        """Return the first sentences; with a grammar, each says whether it is valid."""
        lines = self._texts(predictions["token"][:SAMPLE_LINES])
        if self.grammar is not None:
            lines = [f"{'valid  ' if self.grammar.is_valid(text) else 'INVALID'}  {text}" for text in lines]
        return {"samples": "\n".join(lines) + "\n"}

    def _texts(self, tokens: np.ndarray) -> list[str]:
        return [decode_text(row, self.vocabulary) for row in tokens.tolist()]


def token_mean(values: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean of values [B, T] over the tokens of each sentence, without padding: [B]."""
    is_token = (tokens != PAD).float()
    return (values * is_token).sum(1) / is_token.sum(1).clamp(min=1)


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """Return the sum of each position's reward and all later ones, discounted per step: [B, T]."""
    returns = rewards.clone()
    for position in range(rewards.shape[1] - 2, -1, -1):
        returns[:, position] += discount * returns[:, position + 1]
    return returns
