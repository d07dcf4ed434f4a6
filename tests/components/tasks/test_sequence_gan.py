"""Check sampling, the policy gradient against brute force, rewards, scores, and that a reward is learned."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from components.data.number_words import EnglishNumbers, NumberWords
from components.data.parallel import Parallel
from components.metrics.diversity import sequence_scores
from components.models.recurrent import Recurrent
from components.models.sequence_discriminator import SequenceDiscriminator
from components.optimizers import adam
from components.recipes import recipe
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.storage.vocabulary import BOS, EOS, PAD, SPECIAL, UNK
from components.tasks.sequence_gan import SequenceGan, discounted_returns, token_mean
from components.training import engine, evaluation, exported
from components.training.task import Shard, Spec, State, Task

WORDS = [*SPECIAL, "a", "b"]
A, B = 4, 5
SPEC = Spec({"source": (3,)}, (*WORDS, *SPECIAL), {})


class Fixed(nn.Module):
    """A generator whose next token has the same distribution everywhere."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, tokens: torch.Tensor, states: Any = None) -> tuple[torch.Tensor, dict]:
        return self.logits.expand(*tokens.shape, -1), {}


class Likes(nn.Module):
    """A discriminator that takes one token for real."""

    def __init__(self, token: int) -> None:
        super().__init__()
        self.token = token

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.where(tokens == self.token, 3.0, -3.0)


class Indifferent(Likes):
    """A discriminator that takes one token for real, whatever it is trained on."""

    def __init__(self, token: int) -> None:
        super().__init__(token)
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens) + 0 * self.weight


class Letters:
    """Sentences of one or two letters, with either letter equally often."""

    name = licence = source = "letters"

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        """Return 40 pairs for training, and 12 for validation."""
        texts = ["a", "b", "a b", "b a"]
        return {"train": [(text, text) for text in texts * 10], "validation": [(text, text) for text in texts * 3]}


class Short:
    """A grammar in which a sentence is valid if it has one letter."""

    def is_valid(self, text: str) -> bool:
        return len(text) == 1


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("letters")
    prepare_dataset(Parallel(Letters, length=3), folder)
    return Store(folder)


def fit_letters(task: Task, store: Store, folder: Path | None = None, until: int | None = None) -> engine.Outcome:
    """Train a task for ten steps of 20 sentences, from the checkpoint in `folder` if there is one."""
    feeds = (Feed(store.split("train")), Feed(store.split("validation")))
    return engine.fit(task, letters_spec(store), *feeds, folder, until=until, epochs=5, batch=20, shards=2)


def letters_spec(store: Store) -> Spec:
    columns = {name: tuple(column["shape"]) for name, column in store.manifest["columns"].items()}
    return Spec(columns, tuple(store.manifest["classes"]), {}, store.tokenizers())


def make_task(**arguments: Any) -> SequenceGan:
    task = SequenceGan(Recurrent, SequenceDiscriminator, **arguments)
    task.setup(SPEC)
    return task


def make_shard(count: int) -> Shard:
    return Shard({"row": torch.arange(count)}, torch.Generator().manual_seed(0), 0)


def test_tokens_are_drawn_with_their_probabilities_until_the_end() -> None:
    task = make_task()
    logits = [9.0, 9.0, 9.0, 0.0, 1.0, 0.5]
    tokens = task._sample(State({"generator": Fixed(logits)}), make_shard(4000))
    first = np.bincount(tokens[:, 0], minlength=6)
    expected = torch.tensor(logits[3:]).double().softmax(0).numpy() * 4000
    assert first[[PAD, UNK, BOS]].tolist() == [0, 0, 0]
    assert stats.chisquare(first[3:], expected).pvalue > 0.01
    after_end = tokens[:, 1:][tokens[:, :-1] == EOS]
    assert (after_end == PAD).all()
    assert len(after_end) > 100


def test_returns_add_later_rewards_with_a_discount() -> None:
    returns = discounted_returns(torch.tensor([[1.0, 2.0, 4.0]]), 0.5)
    assert returns.tolist() == [[1 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4, 4]]


def test_the_policy_gradient_is_that_of_the_expected_reward() -> None:
    """Enumerate all sentences of two tokens: the mean of the sampled gradient is the exact one, with any baseline."""
    task = make_task(discount=1.0, entropy=0.0)
    task.length = 2
    generator = Fixed([0.0, 0.0, 0.0, -30.0, 0.3, -0.2])  # the sentence practically never ends early
    state = State({"generator": generator, "discriminator": Likes(A)})
    p = generator.logits[[A, B]].softmax(0)
    value = torch.stack(
        [
            p[i] * p[j] * sum((2 * torch.sigmoid(torch.tensor(3.0 if k == 0 else -3.0)) - 1) for k in (i, j))
            for i, j in itertools.product(range(2), repeat=2)
        ]
    ).sum()
    exact = torch.autograd.grad(value / 2, generator.logits)[0]  # the loss is a mean over the two tokens
    loss, metrics = task.policy_loss(state, make_shard(40_000), baseline=torch.tensor([0.4, -0.1]))
    sampled = -torch.autograd.grad(loss, generator.logits)[0]
    assert sampled[[A, B]].numpy() == pytest.approx(exact[[A, B]].numpy(), abs=0.01)
    assert abs(float(exact[A])) > 0.1
    assert 0 < metrics["reward"] < 1


def test_the_likelihood_leaves_out_unknown_tokens() -> None:
    """Otherwise the generator, which never draws one, would learn to end its sentences in their place."""
    task = SequenceGan(lambda classes: Fixed([0.3, 0.1, 0.2, 1.0, 0.5, 0.7]), lambda classes: Indifferent(A))
    state = task.setup(SPEC)
    rows = {"row": torch.arange(2), "source": torch.tensor([[A, UNK, EOS], [B, EOS, PAD]])}
    loss = task.likelihood_loss(state, Shard(rows, torch.Generator().manual_seed(0), 0))[0]
    log_p = dict(zip((EOS, A, B), torch.tensor([1.0, 0.5, 0.7]).log_softmax(0).tolist(), strict=True))
    expected = -((log_p[A] + log_p[EOS]) / 2 + (log_p[B] + log_p[EOS]) / 2) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_no_gradient_of_the_generator_reaches_the_discriminator() -> None:
    task = make_task()
    state = task.setup(SPEC)
    loss, _ = task.policy_loss(state, make_shard(8), torch.zeros(3))
    gradients = torch.autograd.grad(loss, list(state.modules["discriminator"].parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_likelihood_comes_first_then_the_reward() -> None:
    task = make_task(pretrain=5)
    state = task.setup(SPEC)
    losses: list[str] = []

    class Recorder:
        examples = 4

        def __call__(self, name: str, loss: Any) -> dict[str, torch.Tensor]:
            losses.append(getattr(loss, "func", loss).__name__)
            return {"loss": torch.tensor(0.0)}

        def mean(self, function: Any) -> list[torch.Tensor]:
            return [torch.zeros(3), torch.ones(3)]

    for state.step in (4, 5):
        task.step(state, Recorder())
    assert losses == ["discriminator_loss", "likelihood_loss", "discriminator_loss", "policy_loss"]


def test_means_leave_out_padding() -> None:
    tokens = torch.tensor([[A, EOS, PAD], [A, B, EOS]])
    assert token_mean(torch.tensor([[1.0, 3.0, 99.0], [1.0, 2.0, 6.0]]), tokens).tolist() == [2, 3]


def test_scores_of_sequences_by_hand() -> None:
    generated = np.array([[4, 5, 3], [4, 5, 3], [5, 4, 3], [4, 3, 0]])
    real = np.array([[4, 5, 3], [4, 4, 3]])
    scores = sequence_scores(generated, real, ignored=(0,))
    # generated pairs: 45 53 45 53 54 43 43; real ones: 45 53 44 43
    assert scores["bigram_precision"] == pytest.approx(6 / 7)
    assert scores["bigram_recall"] == pytest.approx(3 / 4)
    assert scores["distinct"] == pytest.approx(3 / 4)


def test_reward_and_validity_by_hand() -> None:
    task = make_task(grammar=Short)
    predictions = {
        "token": np.array([[A, EOS, PAD], [A, B, EOS], [EOS, PAD, PAD], [B, EOS, PAD]]),
        "reward": np.array([0.1, 0.2, 0.4, 0.5], np.float32),
    }
    source = np.array([[A, B, EOS]])
    scores = task.score(predictions, {"source": source})
    assert scores["reward"] == pytest.approx(0.3)
    assert scores["valid"] == 0.5
    assert "reward_before" not in scores
    before = predictions | {"reward_before": np.full(4, 0.25, np.float32)}
    assert task.score(before, {"source": source}) == scores | {"reward_before": 0.25}
    assert "valid" not in make_task().score(predictions, {"source": source})


def test_the_reward_of_a_sentence_is_the_discriminators_mean_over_its_tokens() -> None:
    task = make_task()
    state = State({"generator": Fixed([0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), "discriminator": Likes(A)})
    predictions = task.predict(state, {"row": torch.arange(200)})
    counts = [Counter(row) for row in predictions["token"].tolist()]
    high, low = (float(torch.sigmoid(torch.tensor(logit))) for logit in (3.0, -3.0))
    expected = [(high * row[A] + low * (row[B] + row[EOS])) / (row[A] + row[B] + row[EOS]) for row in counts]
    assert predictions["reward"].tolist() == pytest.approx(expected)


def test_the_reward_rises_above_that_of_the_likelihood_phase(letters: Store) -> None:
    """Let a discriminator, which never learns, like one of two letters that the data have equally often."""
    task = SequenceGan(
        lambda classes: Fixed([0.0] * classes),
        lambda classes: Indifferent(A),
        partial(adam, lr=0.3),
        pretrain=4,
        entropy=0.0,
    )
    outcome = fit_letters(task, letters)
    # sentences of one, two and three tokens, each of which is the liked letter, the other one or the end
    assert outcome.scores["reward_before"] == pytest.approx(1 / 3 * 0.05 + 2 / 9 * 0.27 + 4 / 9 * 0.45, abs=0.08)
    assert outcome.scores["reward"] > outcome.scores["reward_before"] + 0.2


def test_the_reward_of_the_likelihood_phase_survives_a_resumption_and_an_export(letters: Store, tmp_path: Path) -> None:
    section = {
        "use": "tasks.sequence_gan.SequenceGan",
        "generator": {"use": "models.recurrent.Recurrent", "embedding": 4, "hidden": 8},
        "discriminator": {"use": "models.sequence_discriminator.SequenceDiscriminator", "embedding": 4, "hidden": 8},
        "pretrain": 4,
    }
    straight = fit_letters(recipe.build(section, Task), letters, tmp_path / "straight")
    for until in (3, 7, None):
        resumed = fit_letters(recipe.build(section, Task), letters, tmp_path / "resumed", until)
        assert ("reward_before" in resumed.scores) == (until != 3)
    assert resumed.scores == straight.scores
    assert 0 < straight.scores["reward_before"] < 1
    exported.write_model(tmp_path / "model", straight.state, letters_spec(letters), section)
    model = exported.read_model(tmp_path / "model")
    assert evaluation.evaluate(*model, Feed(letters.split("validation")))[0] == straight.scores
    assert "reward_before" not in fit_letters(recipe.build(section | {"pretrain": 0}, Task), letters).scores


def test_every_number_is_valid_and_no_mixture_of_words() -> None:
    numbers = [text for text, _ in NumberWords(train=500, validation=0, test=0).pairs()["train"]]
    assert all(map(EnglishNumbers().is_valid, numbers))
    wrong = ["", "and", "hundred", "two hundred and", "twenty thirty", "five ty", "one one", "thousand and two"]
    assert not any(map(EnglishNumbers().is_valid, wrong))


def test_a_reward_is_learned_without_a_gradient_through_the_tokens() -> None:
    """Train against a fixed judge that likes one word: the generator soon writes nothing else."""
    task = make_task(entropy=0.0)
    generator = Fixed([0.0, 0.0, 0.0, 0.0, -1.0, 1.0])
    state = State({"generator": generator, "discriminator": Likes(A)})
    for step in range(60):
        shard = Shard({"row": torch.arange(64)}, torch.Generator().manual_seed(step), 0)
        total, share = task._returns(state, shard)
        loss, metrics = task.policy_loss(state, shard, total / share.clamp(min=1e-6))
        (gradient,) = torch.autograd.grad(loss, generator.logits)
        generator.logits.data -= gradient
        if step == 0:
            first = metrics["reward"]
    assert metrics["reward"] > first + 0.4
    assert generator.logits.argmax() == A
