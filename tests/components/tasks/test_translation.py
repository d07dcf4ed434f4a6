"""The masked loss by hand; what is said is judged as it is read; translators learn to turn a sequence round."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components.data.parallel import BOS, EOS, PAD, SPECIAL, UNK, Parallel
from components.errors import Refusal
from components.models.seq2seq import Seq2Seq
from components.models.transformer import Transformer
from components.optimizers import adam
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.translation import Translation, shifted
from components.training import engine, exported
from components.training.task import Shard, Spec, State

CLASSES = (*SPECIAL, *"abcd", *SPECIAL, *"wxyz")
LENGTH = 6
SPEC = Spec({"source": (LENGTH,), "target": (LENGTH,)}, CLASSES, {})
A, B, C, D = range(4, 8)
MODELS = {
    "seq2seq": partial(Seq2Seq, embedding=8, hidden=24),
    "attention": partial(Seq2Seq, embedding=8, hidden=24, attention="additive"),
    "transformer": partial(Transformer, width=16, heads=2, layers=1, inner=32, dropout=0.0),
}


class Reversed:
    """abcd -> zyxw: two to five letters, turned round and translated."""

    name, licence, source = "reversed", "CC0", "written here"

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        draw = np.random.default_rng(0)
        texts = ["".join(draw.choice(list("abcd"), draw.integers(2, 6))) for _ in range(700)]
        turned = str.maketrans("abcd", "wxyz")
        pairs = [(text, text[::-1].translate(turned)) for text in dict.fromkeys(texts)]
        return {"train": pairs[60:], "validation": pairs[:60]}


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("reversed")
    prepare_dataset(Parallel(Reversed, "char", LENGTH), folder)
    return Store(folder)


def shard(source: list[list[int]], target: list[list[int]]) -> Shard:
    padded = [[[*row, *[PAD] * (LENGTH - len(row))] for row in rows] for rows in (source, target)]
    return Shard(dict(zip(("source", "target"), map(torch.tensor, padded), strict=True)), torch.Generator(), 0)


SHARD = shard([[A, B, EOS], [C, D, A, EOS], [B] * LENGTH], [[D, C, EOS], [D, EOS], [A] * LENGTH])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_over_the_targets_tokens_alone(name: str, smoothing: float) -> None:
    """Eleven of them, each after those before it, sentence by sentence without any padding."""
    task = Translation(MODELS[name], label_smoothing=smoothing)
    state = task.setup(SPEC)
    loss, metrics = task.loss(state, SHARD)
    net, nll, right = state.modules["net"], [], []
    for source, target in ((SHARD.batch["source"][row], SHARD.batch["target"][row]) for row in range(3)):
        target = target[target != PAD]
        given = torch.cat([torch.tensor([BOS]), target[:-1]])
        with torch.no_grad():
            log_p = net(source[source != PAD][None], given[None])[0].log_softmax(1)
        own, all_of_them = -log_p[range(len(target)), target], -log_p.mean(1)
        nll += ((1 - smoothing) * own + smoothing * all_of_them).tolist()
        right += (log_p.argmax(1) == target).tolist()
    assert len(nll) == 11
    assert loss.item() == pytest.approx(np.mean(nll), rel=1e-5)
    assert metrics["accuracy"].item() == pytest.approx(np.mean(right))


def test_padding_teaches_nothing() -> None:
    task = Translation(MODELS["transformer"])
    state = task.setup(SPEC)
    task.loss(state, SHARD)[0].backward()
    net = state.modules["net"]
    assert net.head.weight.grad[PAD].abs().sum() > 0  # said instead of a token it costs
    assert net.source.weight.grad[PAD].abs().max() == 0
    assert net.source.weight.grad[A].abs().max() > 0


@pytest.mark.parametrize("step", [0, 5, 10, 1000])
def test_scheduled_sampling_gives_the_decoder_its_own_words(step: int) -> None:
    """None at first, a share on the way, all of them from step `ramp` on if the share is 1."""
    task = Translation(MODELS["attention"], sampling=1.0, ramp=10)
    state = task.setup(SPEC)
    state.step = step
    net, (source, target) = state.modules["net"], SHARD.batch.values()
    truth = shifted(target)
    own = shifted(net(source, truth).argmax(2))
    sampled = torch.rand(truth.shape, generator=torch.Generator()) < min(1.0, step / 10)
    assert sampled.any() == (step > 0)
    assert sampled.all() == (step >= 10)
    logits = net(source, torch.where(sampled, own, truth)).flatten(0, 1)
    wanted = F.cross_entropy(logits[target.flatten() != PAD], target[target != PAD])
    assert not torch.equal(own, truth)
    assert task.loss(state, replace(SHARD, generator=torch.Generator()))[0].item() == pytest.approx(
        wanted.item(), rel=1e-5
    )


def predicted(task: Translation, state: State, **columns: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return task.predict(state, columns)


def test_scores_judge_what_is_read() -> None:
    """Behind <eos> nothing counts; an unknown token is never right; padding is no part of the perplexity."""
    task = Translation(MODELS["seq2seq"])
    task.setup(SPEC)
    said = np.array([[A, B, C, D, EOS, PAD]] * 4)
    said[1, 5], said[2, 1], said[3, 2:] = A, UNK, [EOS, PAD, PAD, PAD]
    truth = np.array([[A, B, C, D, EOS, PAD]] * 4)
    truth[2, 1] = UNK
    nll = np.where(truth != PAD, math.log(3), 0.0)
    found = task.score({"token": said, "nll": nll}, {"source": truth, "target": truth})
    assert found["exact_match"] == 0.5
    assert found["perplexity"] == pytest.approx(3.0)
    right, of = [4 + 4 + 3 + 2, 3 + 3 + 1 + 1, 2 + 2, 1 + 1], [14, 10, 6, 3]  # n-grams that hold no unknown token
    precision = np.array(right) / np.array(of)
    assert found["bleu"] == pytest.approx(math.exp(1 - 16 / 14) * precision.prod() ** 0.25)


def test_what_a_served_model_is_asked_has_no_truth(turned: Store) -> None:
    task = Translation(MODELS["attention"], beam=2)
    state = task.setup(SPEC)
    state.modules["net"].eval()
    alone = predicted(task, state, source=SHARD.batch["source"])
    both = predicted(task, state, **SHARD.batch)
    assert set(alone) == {"token", "score"}
    assert set(both) == {"token", "score", "nll"}
    assert torch.equal(alone["token"], both["token"])
    assert alone["token"].shape == (3, LENGTH)
    mean = both["nll"].sum() / 11
    assert mean.item() == pytest.approx(task.loss(state, SHARD)[0].item(), rel=1e-5)


def test_shifted() -> None:
    assert shifted(torch.tensor([[A, B, EOS, PAD]])).tolist() == [[BOS, A, B, EOS]]


@pytest.fixture(scope="module", params=MODELS)
def learned(request: pytest.FixtureRequest, turned: Store) -> tuple[str, Translation, engine.Outcome]:
    task = Translation(MODELS[request.param], partial(adam, lr=0.01))
    spec = Spec(SPEC.columns, tuple(turned.manifest["classes"]), {})
    feeds = [Feed(turned.split(name)) for name in ("train", "validation")]
    return request.param, task, engine.fit(task, spec, *feeds, epochs=30, batch=50, clip=1.0, evaluate_every=30)


def test_it_learns_to_turn_a_sequence_round(learned: tuple[str, Translation, engine.Outcome]) -> None:
    scores = learned[2].scores
    assert scores["exact_match"] > 0.8
    assert scores["bleu"] > 0.9


def test_translations_are_there_to_read(learned: tuple[str, Translation, engine.Outcome], turned: Store) -> None:
    name, task, out = learned
    feed = Feed(turned.split("validation"))
    _, predictions = engine.evaluate(task, out.state, feed)
    predictions["token"][3] = predictions["token"][4]
    drawn = task.draw(out.state, predictions, engine.target_columns(task, feed))
    lines = drawn["translations"].splitlines()
    assert sum(line.startswith(("right", "WRONG")) for line in lines) == 10
    assert sum(line.startswith("WRONG") for line in lines) == sum("(the truth)" in line for line in lines) > 0
    assert ("attention" in drawn) == (name != "seq2seq")


def test_each_token_said_has_its_weights_on_all_that_is_read(learned: tuple[str, Translation, engine.Outcome]) -> None:
    name, task, out = learned
    weights = task.weights(out.state, [A, B, C, EOS, PAD, PAD], [C, B, EOS, PAD, PAD, PAD])
    if name == "seq2seq":
        assert weights is None
        return
    assert weights.shape == (3, 4)
    assert np.allclose(weights.sum(1), 1, atol=1e-5)


def test_a_trained_model_comes_back_from_disk(
    learned: tuple[str, Translation, engine.Outcome], turned: Store, tmp_path: Path
) -> None:
    name, task, out = learned
    use = {"seq2seq": "models.seq2seq.Seq2Seq", "attention": "models.seq2seq.Seq2Seq"}.get(
        name, "models.transformer.Transformer"
    )
    model = {"use": use, **MODELS[name].keywords}
    spec = Spec(SPEC.columns, tuple(turned.manifest["classes"]), {})
    exported.write_model(tmp_path, out.state, spec, {"use": "tasks.translation.Translation", "model": model})
    restored = exported.read_model(tmp_path)
    feed = Feed(turned.split("validation"))
    assert engine.evaluate(*restored, feed)[0] == engine.evaluate(task, out.state, feed)[0]


def test_other_data_are_refused() -> None:
    with pytest.raises(Refusal, match="data: not a parallel corpus"):
        Translation(MODELS["seq2seq"]).setup(Spec(SPEC.columns, ("<unk>", "a"), {}))
