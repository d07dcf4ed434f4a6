"""The policy gradient equals that of the enumerated expected reward, and training raises the reward."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.data.parallel import decode_tokens
from components.errors import Refusal
from components.metrics.translation import sentence_bleu
from components.models.seq2seq import Seq2Seq
from components.optimizers import adam
from components.storage.vocabulary import EOS, PAD, SPECIAL, UNK
from components.tasks.self_critical import SelfCritical, sample_translations, sequence_log_p
from components.training import exported
from components.training.peers import Peers
from components.training.task import Shard, Spec, State
from components.training.update import ShardedUpdate

LENGTH = 3
A, B = 4, 5
CLASSES = (*SPECIAL, "x", *SPECIAL, "a", "b")
SPEC = Spec({"source": (2,), "target": (LENGTH,)}, CLASSES, {})
SEQUENCES = [
    row
    for row in product((EOS, 1, A, B, PAD), repeat=LENGTH)
    if all((row[i] == PAD) == (EOS in row[:i]) for i in range(LENGTH))
]


def model(sources: int, targets: int) -> nn.Module:
    return Seq2Seq(sources, targets, embedding=4, hidden=6)


def build(likelihood: float = 0.0) -> tuple[SelfCritical, State]:
    torch.manual_seed(0)
    task = SelfCritical(model, likelihood=likelihood, optimizer=lambda p: adam(p, lr=0.03))
    state = task.setup(SPEC)
    with torch.no_grad():
        for parameter in state.modules["net"].parameters():
            parameter.mul_(2.0)
    return task, state


def rows(count: int, first: int = 0) -> dict[str, Tensor]:
    return {
        "row": torch.arange(first, first + count),
        "source": torch.tensor([[4, EOS]]).expand(count, -1),
        "target": torch.tensor([[A, B, EOS]]).expand(count, -1),
    }


def reward(sequence: tuple[int, ...]) -> float:
    vocabulary = list(CLASSES[5:])
    return sentence_bleu(decode_tokens(sequence, vocabulary), ["a", "b"])


def test_all_sequences_have_probability_one_in_sum() -> None:
    _, state = build()
    assert len(SEQUENCES) == 1 + 3 + 9 + 27
    p = sequence_log_p(state.modules["net"], rows(len(SEQUENCES))["source"], torch.tensor(SEQUENCES)).exp()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert p.max() < 0.9


@torch.no_grad()
def test_samples_follow_the_distribution() -> None:
    _, state = build()
    net, count = state.modules["net"], 20_000
    p = sequence_log_p(net, rows(len(SEQUENCES))["source"], torch.tensor(SEQUENCES)).exp()
    uniforms = torch.rand(count, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampled = sample_translations(net, rows(count)["source"], uniforms).tolist()
    frequency = torch.tensor([sampled.count(list(sequence)) / count for sequence in SEQUENCES])
    assert torch.allclose(frequency, p, atol=0.012)


def gradient(value: Tensor, net: nn.Module) -> np.ndarray:
    parts = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    return np.concatenate([part.flatten().numpy() for part in parts if part is not None])


def test_the_policy_gradient_is_that_of_the_enumerated_expected_reward() -> None:
    """Sum p(y) r(y) over all 40 sequences of two tokens, and compare with the mean over 4,000 samples."""
    task, state = build()
    net = state.modules["net"]
    log_p = sequence_log_p(net, rows(len(SEQUENCES))["source"], torch.tensor(SEQUENCES))
    rewards = torch.tensor([reward(sequence) for sequence in SEQUENCES])
    expected_reward = (log_p.exp() * rewards).sum()
    expected = -gradient(expected_reward, net)
    estimates = []
    for first in range(0, 4000, 400):
        loss, metrics = task.loss(state, Shard(rows(400, first), torch.Generator(), 0))
        assert loss.item() == pytest.approx(-metrics["reward"].item(), abs=1e-6)
        estimates.append(gradient(loss, net))
    mean, error = np.mean(estimates, axis=0), np.std(estimates, axis=0, ddof=1) / np.sqrt(len(estimates))
    assert task.objective() is None, "the score 'loss' is the cross-entropy"
    assert np.linalg.norm(mean - expected) < 3 * np.linalg.norm(error)
    assert np.linalg.norm(error) < 0.3 * np.linalg.norm(expected), "the comparison must be able to fail"


def test_the_baseline_is_the_greedy_translation_of_an_evaluation() -> None:
    """Dropout changes most translations of this network. The layers keep the modes that they had."""
    torch.manual_seed(0)
    task = SelfCritical(partial(Seq2Seq, embedding=4, hidden=6, dropout=0.7), likelihood=0.0)
    state = task.setup(SPEC)
    net = state.modules["net"]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4.0)
    net.train()
    net.source.eval()  # as a frozen part of a network
    metrics = task.loss(state, Shard(rows(64), torch.Generator(), 0))[1]
    assert [name for name, layer in net.named_modules() if not layer.training] == ["source"]
    net.eval()
    translation = task.predict(state, {"source": rows(1)["source"]})["token"][0].tolist()
    assert metrics["greedy_reward"].item() == pytest.approx(reward(tuple(translation)), abs=1e-6)


def test_an_unknown_token_earns_no_reward() -> None:
    """Compare with the scores, in which it never matches an unknown token of the truth."""
    task, _ = build()
    tokens = torch.tensor([[A, UNK, EOS], [A, B, EOS]])
    rewards = task._rewards(tokens, torch.tensor([[A, UNK, EOS], [A, B, EOS]]))
    assert rewards.tolist() == pytest.approx([sentence_bleu(["a", ""], ["a", "<unk>"]), 1.0])


def test_a_start_of_other_sizes_is_refused(tmp_path: Path) -> None:
    _, state = build()
    exported.write_model(tmp_path, state, SPEC, {"use": "tasks.self_critical.SelfCritical"})
    larger = SelfCritical(partial(Seq2Seq, embedding=4, hidden=8), start=str(tmp_path))
    with pytest.raises(Refusal, match=r"task.start: .*weights.safetensors holds another network \(.* differs\)"):
        larger.setup(SPEC)


def test_training_raises_the_reward_from_its_start(tmp_path: Path) -> None:
    _, state = build()
    exported.write_model(tmp_path, state, SPEC, {"use": "tasks.self_critical.SelfCritical"})
    task = SelfCritical(model, str(tmp_path), lambda parameters: adam(parameters, lr=0.02), likelihood=0.0)
    torch.manual_seed(1)
    started = task.setup(SPEC)
    saved = state.modules["net"].state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in started.modules["net"].state_dict().items())
    update = ShardedUpdate(started, Peers())
    rewards = []
    for step in range(40):
        started.step = step
        update.begin([rows(64)], [64])
        rewards.append(float(task.step(started, update)["reward"]))
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.2
