"""Check the masked loss by hand, scores of decoded text, and that models learn to reverse a sequence."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from components.data.parallel import Parallel
from components.errors import Refusal
from components.models.seq2seq import Seq2Seq
from components.models.transformer import Transformer
from components.optimizers import adam
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.order import keyed_uniforms
from components.storage.store import Store
from components.storage.vocabulary import BOS, EOS, PAD, SPECIAL, UNK
from components.tasks import translation
from components.tasks.translation import Translation, shift_right
from components.tokens.bpe import BPE
from components.training import engine, evaluation, exported
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
    """abcd -> zyxw: two to five letters, reversed and translated."""

    name, licence, source = "reversed", "CC0", "written here"

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        draw = np.random.default_rng(0)
        texts = ["".join(draw.choice(list("abcd"), draw.integers(2, 6))) for _ in range(700)]
        letters = str.maketrans("abcd", "wxyz")
        pairs = [(text, text[::-1].translate(letters)) for text in dict.fromkeys(texts)]
        return {"train": pairs[60:], "validation": pairs[:60]}


class Spoken(Reversed):
    """Sentences of several words, some of them unlike all others."""

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        return {"train": [("two old dogs", "zwei alte hunde sind da"), ("one dog", "ein hund"), ("☃", "schneemann")]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("reversed")
    prepare_dataset(Parallel(Reversed, "char", LENGTH), folder)
    return Store(folder)


def shard(source: list[list[int]], target: list[list[int]]) -> Shard:
    padded = [[[*row, *[PAD] * (LENGTH - len(row))] for row in rows] for rows in (source, target)]
    columns = dict(zip(("source", "target"), map(torch.tensor, padded), strict=True))
    return Shard(columns | {"row": torch.arange(len(source))}, torch.Generator(), 0)


SHARD = shard([[A, B, EOS], [C, D, A, EOS], [B] * LENGTH], [[D, C, EOS], [D, EOS], [A] * LENGTH])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_covers_target_tokens_only(name: str, smoothing: float) -> None:
    """Compute the losses of all eleven target tokens, sentence by sentence and without padding."""
    task = Translation(MODELS[name], label_smoothing=smoothing)
    state = task.setup(SPEC)
    loss, metrics = task.loss(state, SHARD)
    net, nll, correct = state.modules["net"], [], []
    for source, target in ((SHARD.batch["source"][row], SHARD.batch["target"][row]) for row in range(3)):
        target = target[target != PAD]
        inputs = torch.cat([torch.tensor([BOS]), target[:-1]])
        with torch.no_grad():
            log_p = net(source[source != PAD][None], inputs[None])[0].log_softmax(1)
        target_nll = -log_p[range(len(target)), target]
        mean_nll = -log_p.mean(1)
        nll += ((1 - smoothing) * target_nll + smoothing * mean_nll).tolist()
        correct += (log_p.argmax(1) == target).tolist()
    assert len(nll) == 11
    assert loss.item() == pytest.approx(np.mean(nll), rel=1e-5)
    assert metrics["accuracy"].item() == pytest.approx(np.mean(correct))


def test_padding_in_the_source_has_no_gradient() -> None:
    task = Translation(MODELS["transformer"])
    state = task.setup(SPEC)
    task.loss(state, SHARD)[0].backward()
    net = state.modules["net"]
    assert net.head.weight.grad[PAD].abs().sum() > 0, "predicting padding instead of a token must cost"
    assert net.source.weight.grad[PAD].abs().max() == 0
    assert net.source.weight.grad[A].abs().max() > 0


@pytest.mark.parametrize("step", [0, 5, 10, 1000])
def test_scheduled_sampling_feeds_predictions_to_the_decoder(step: int) -> None:
    """Check for sampling=1: no predictions at first, a growing fraction, and only predictions from step `ramp` on."""
    task = Translation(MODELS["attention"], sampling=1.0, ramp=10)
    state = task.setup(SPEC)
    state.step = step
    net, (source, target, row) = state.modules["net"], SHARD.batch.values()
    truth = shift_right(target)
    predictions = shift_right(net(source, truth).argmax(2))
    sampled = torch.from_numpy(keyed_uniforms(row.numpy(), LENGTH, step, 16) < min(1.0, step / 10))
    assert sampled.any() == (step > 0)
    assert sampled.all() == (step >= 10)
    logits = net(source, torch.where(sampled, predictions, truth)).flatten(0, 1)
    expected = F.cross_entropy(logits[target.flatten() != PAD], target[target != PAD])
    assert not torch.equal(predictions, truth)
    assert task.loss(state, SHARD)[0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_sequential_sampling_feeds_back_what_it_said_before(name: str) -> None:
    """Compare with greedy decoding, where all inputs are predictions, and with teacher forcing, where none is."""
    task = Translation(MODELS[name], sampling=1.0, ramp=1, passes="sequential")
    state = task.setup(SPEC)
    net, (source, target, _) = state.modules["net"], SHARD.batch.values()
    forced = task.loss(state, SHARD)[0]
    assert forced.item() == pytest.approx(Translation(MODELS[name]).loss(state, SHARD)[0].item(), rel=1e-5)
    state.step = 1
    tokens = torch.full((3, 1), BOS)
    for _ in range(LENGTH):
        tokens = torch.cat([tokens, net(source, tokens)[:, -1:].argmax(2)], dim=1)
    logits = net(source, tokens[:, :-1])
    expected = F.cross_entropy(logits[target != PAD], target[target != PAD])
    assert task.loss(state, SHARD)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_parts_of_words_are_scored_as_words(tmp_path: Path) -> None:
    prepare_dataset(Parallel(Spoken, partial(BPE, size=300), LENGTH), tmp_path)
    store = Store(tmp_path)
    columns = {name: column.inner_shape for name, column in store.split("train").columns.items()}
    task = Translation(MODELS["seq2seq"])
    task.setup(Spec(columns, tuple(store.manifest["classes"]), {}, store.tokenizers()))
    rows = store.split("train").array("reference")
    assert [task.words(row) for row in rows.tolist()] == [target.split() for _, target in Spoken().pairs()["train"]]
    assert store.split("train").array("target").shape[1] == LENGTH < rows.shape[1]
    targets = {"source": store.split("train").array("source"), "target": rows, "reference": rows}
    scores = task.score({"token": rows, "nll": np.zeros(rows.shape)}, targets)
    assert scores["bleu"] == scores["exact_match"] == 1.0


def predict(task: Translation, state: State, **columns: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return task.predict(state, columns)


def test_scores_use_the_decoded_text() -> None:
    """Check that tokens after <eos> and padding are ignored, and that unknown tokens are wrong."""
    task = Translation(MODELS["seq2seq"])
    task.setup(SPEC)
    tokens = np.array([[A, B, C, D, EOS, PAD]] * 4)
    tokens[1, 5] = A
    tokens[2, 1] = UNK
    tokens[3, 2:] = [EOS, PAD, PAD, PAD]
    truth = np.array([[A, B, C, D, EOS, PAD]] * 4)
    truth[2, 1] = UNK
    nll = np.where(truth != PAD, math.log(3), 0.0)
    scores = task.score({"token": tokens, "nll": nll}, {"source": truth, "target": truth})
    assert scores["exact_match"] == 0.5
    assert scores["perplexity"] == pytest.approx(3.0)
    # Matching n-grams of lengths 1 to 4, and all n-grams without an unknown token.
    matches = [4 + 4 + 3 + 2, 3 + 3 + 1 + 1, 2 + 2, 1 + 1]
    totals = [14, 10, 6, 3]
    precision = np.array(matches) / np.array(totals)
    assert scores["bleu"] == pytest.approx(math.exp(1 - 16 / 14) * precision.prod() ** 0.25)


def test_a_served_model_needs_no_truth(corpus: Store) -> None:
    task = Translation(MODELS["attention"], beam=2)
    state = task.setup(SPEC)
    state.modules["net"].eval()
    alone = predict(task, state, source=SHARD.batch["source"])
    both = predict(task, state, **SHARD.batch)
    assert set(alone) == {"token", "score"}
    assert set(both) == {"token", "score", "nll", "greedy"}
    assert torch.equal(alone["token"], both["token"])
    assert alone["token"].shape == (3, LENGTH)
    mean = both["nll"].sum() / 11
    assert mean.item() == pytest.approx(task.loss(state, SHARD)[0].item(), rel=1e-5)


def test_a_beam_is_scored_beside_greedy_search() -> None:
    torch.manual_seed(0)
    beam, greedy = Translation(MODELS["attention"], beam=3), Translation(MODELS["attention"], beam=1)
    state = beam.setup(SPEC)
    greedy.setup(SPEC)
    state.modules["net"].eval()
    both, alone = (
        {name: values.numpy() for name, values in predict(task, state, **SHARD.batch).items()}
        for task in (beam, greedy)
    )
    assert np.array_equal(both["greedy"], alone["token"])
    assert "greedy" not in alone
    assert not np.array_equal(both["greedy"], both["token"])
    truth = both["token"]
    scores = beam.score(both, {"source": truth, "target": truth})
    assert scores["greedy_bleu"] == greedy.score(alone, {"source": truth, "target": truth})["bleu"]
    assert scores["greedy_bleu"] < scores["bleu"] == 1


@pytest.mark.parametrize("name", MODELS)
def test_sentences_are_translated_in_groups_and_returned_in_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "GROUP", 2)
    task = Translation(MODELS[name], beam=2)
    state = task.setup(SPEC)
    state.modules["net"].eval()
    together = predict(task, state, **SHARD.batch)
    for row in range(3):
        alone = predict(task, state, **{name: values[row : row + 1] for name, values in SHARD.batch.items()})
        assert torch.equal(alone["token"][0], together["token"][row])
        assert torch.allclose(alone["score"][0], together["score"][row], atol=1e-5)
        assert torch.allclose(alone["nll"][0], together["nll"][row], atol=1e-5)


def test_grouped_training_covers_the_same_tokens(corpus: Store) -> None:
    """Train on all rows in one step: the order within it changes nothing but rounding."""
    spec = Spec(SPEC.columns, tuple(corpus.manifest["classes"]), {})
    feeds = [Feed(corpus.split(name)) for name in ("train", "validation")]
    losses = {}
    for order in ("shuffled", "grouped"):
        task = Translation(MODELS["attention"], partial(adam, lr=0.01))
        out = engine.fit(task, spec, *feeds, epochs=3, batch="all", shards=1, order=order)
        losses[order] = out.scores["loss"]
    assert losses["grouped"] == pytest.approx(losses["shuffled"], rel=1e-3)


def test_a_task_without_lengths_is_refused(corpus: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Translation, "lengths", ())
    spec = Spec(SPEC.columns, tuple(corpus.manifest["classes"]), {})
    with pytest.raises(Refusal, match=r"fit.order: grouped needs .*, which Translation does not have here"):
        engine.fit(Translation(MODELS["seq2seq"]), spec, Feed(corpus.split("train")), order="grouped")


def test_shift_right() -> None:
    assert shift_right(torch.tensor([[A, B, EOS, PAD]])).tolist() == [[BOS, A, B, EOS]]


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest, corpus: Store) -> tuple[str, Translation, engine.Outcome]:
    task = Translation(MODELS[request.param], partial(adam, lr=0.01))
    spec = Spec(SPEC.columns, tuple(corpus.manifest["classes"]), {})
    feeds = [Feed(corpus.split(name)) for name in ("train", "validation")]
    return request.param, task, engine.fit(task, spec, *feeds, epochs=40, batch=50, clip=1.0, evaluate_every=40)


def test_it_learns_to_reverse_a_sequence(trained: tuple[str, Translation, engine.Outcome]) -> None:
    scores = trained[2].scores
    assert scores["exact_match"] > 0.8
    assert scores["bleu"] > 0.9


def test_sampled_translations_are_readable(trained: tuple[str, Translation, engine.Outcome], corpus: Store) -> None:
    name, task, out = trained
    feed = Feed(corpus.split("validation"))
    _, predictions = evaluation.evaluate(task, out.state, feed)
    predictions["token"][3] = predictions["token"][4]
    drawn = task.draw(out.state, predictions, evaluation.target_columns(task, feed))
    lines = drawn["translations"].splitlines()
    assert sum(line.startswith(("right", "WRONG")) for line in lines) == 10
    assert sum(line.startswith("WRONG") for line in lines) == sum("(the truth)" in line for line in lines) > 0
    assert ("attention" in drawn) == (name != "seq2seq")


def test_each_translated_token_attends_to_the_source(trained: tuple[str, Translation, engine.Outcome]) -> None:
    name, task, out = trained
    weights = task.attention_weights(out.state, [A, B, C, EOS, PAD, PAD], [C, B, EOS, PAD, PAD, PAD])
    if name == "seq2seq":
        assert weights is None
        return
    assert weights.shape == (3, 4)
    assert np.allclose(weights.sum(1), 1, atol=1e-5)


def test_a_trained_model_can_be_restored(
    trained: tuple[str, Translation, engine.Outcome], corpus: Store, tmp_path: Path
) -> None:
    name, task, out = trained
    use = {"seq2seq": "models.seq2seq.Seq2Seq", "attention": "models.seq2seq.Seq2Seq"}.get(
        name, "models.transformer.Transformer"
    )
    model = {"use": use, **MODELS[name].keywords}
    spec = Spec(SPEC.columns, tuple(corpus.manifest["classes"]), {})
    exported.write_model(tmp_path, out.state, spec, {"use": "tasks.translation.Translation", "model": model})
    restored = exported.read_model(tmp_path)
    feed = Feed(corpus.split("validation"))
    assert evaluation.evaluate(*restored, feed)[0] == evaluation.evaluate(task, out.state, feed)[0]


def test_data_without_two_vocabularies_are_refused() -> None:
    with pytest.raises(Refusal, match="data: not a parallel corpus"):
        Translation(MODELS["seq2seq"]).setup(Spec(SPEC.columns, ("<unk>", "a"), {}))
