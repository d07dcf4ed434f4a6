"""Check counts and the smoothing formula by brute force, and tables that do not depend on batches and workers."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from components.data.text import Text
from components.errors import Refusal
from components.runs import journal
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.ngram import NGram, merge_counts
from components.training import checkpoint, engine, evaluation
from components.training.task import Spec, State

VOCABULARY = ("<unk>", *"abcd")
SIZE, STEPS = len(VOCABULARY), 4


class Drawn:
    """Random letters that depend on the two letters before them."""

    name, licence, source = "drawn", "CC0", "drawn here"

    def text(self) -> str:
        random = np.random.default_rng(0)
        letters = ["a", "b"]
        for _ in range(798):
            likely = "abcd"[(ord(letters[-1]) + 2 * ord(letters[-2])) % 4]
            letters.append(likely if random.random() < 0.7 else str(random.choice(list("abcd"))))
        return "".join(letters)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("drawn")
    prepare_dataset(Text(Drawn, steps=STEPS, validation=0.0, test=0.25), folder)
    return Store(folder)


def spec(classes: tuple[str, ...] = VOCABULARY) -> Spec:
    return Spec({"token": (STEPS + 1,)}, classes, {})


def train_model(task: NGram, store: Store, **fit) -> State:
    fit = {"epochs": 1, "batch": 1, "order": "sequential", **fit}
    return engine.fit(task, spec(tuple(store.manifest["classes"])), Feed(store.split("train")), **fit).state


def join_windows(rows: np.ndarray) -> list[int]:
    """Return the text of consecutive windows."""
    return [*rows[:, :-1].reshape(-1).tolist(), int(rows[-1, -1])]


def count_ngrams(text: list[int], n: int) -> Counter:
    """Count the n-grams of every length that end at a target: at all tokens but the first."""
    return Counter(tuple(text[end - k : end]) for k in range(1, n + 1) for end in range(max(2, k), len(text) + 1))


def probability(counts: Counter, context: tuple[int, ...], token: int, smoothing: float, n: int) -> float:
    """Return p by the notes' formula, from 1 / vocabulary up to the longest context that exists."""
    p = 1 / SIZE
    for k in range(1, n + 1):
        if k - 1 > len(context):
            break
        suffix = context[len(context) - k + 1 :]
        total = sum(counts[(*suffix, other)] for other in range(SIZE))
        p = (counts[(*suffix, token)] + smoothing * p) / (total + smoothing)
    return p


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_counts_and_probabilities_by_brute_force(n: int, drawn: Store) -> None:
    """Check all counts and losses, for contexts longer than a window as well."""
    task = NGram(n=n, smoothing=0.7)
    state = train_model(task, drawn)
    counts = count_ngrams(join_windows(drawn.split("train").array("token")), n)
    decoded = {}
    for k in range(1, n + 1):
        for key, count in state.tables[f"{k}-grams"].T.tolist():
            decoded[tuple(key // SIZE ** (k - 1 - place) % SIZE for place in range(k))] = count
    assert decoded == dict(counts)
    text = join_windows(drawn.split("test").array("token"))
    scores, predictions = evaluation.evaluate(task, state, Feed(drawn.split("test")))
    expected = [
        -math.log(probability(counts, tuple(text[max(0, at - n + 1) : at]), text[at], 0.7, n))
        for at in range(1, len(text))
    ]
    assert np.allclose(predictions["nll"].reshape(-1), expected, atol=1e-5)
    assert scores["perplexity"] == pytest.approx(math.exp(np.mean(expected)), rel=1e-5)
    after = [
        max(
            range(SIZE),
            key=lambda token: probability(counts, tuple(text[: at + 1][-n + 1 :] if n > 1 else ()), token, 0.7, n),
        )
        for at in range(STEPS, len(text), STEPS)
    ]
    assert predictions["token"].tolist() == after


@pytest.mark.parametrize("n", [1, 2, 4])
def test_probabilities_sum_to_one_and_agree_with_the_loss(n: int, drawn: Store) -> None:
    task = NGram(n=n, smoothing=2.0)
    state = train_model(task, drawn)
    rows = drawn.split("test").array("token")
    text = np.concatenate([task.preceding_tokens(rows, torch.arange(len(rows))), rows], axis=1)
    width = text.shape[1]
    p = task.distribution(state, text[:, width - n : width - 1])
    assert np.allclose(p.sum(1), 1)
    assert np.allclose(-np.log(p[np.arange(len(rows)), rows[:, -1]]), task.nll(state, text)[:, -1])
    unseen = np.full((1, n - 1), SIZE - 1)
    assert np.allclose(task.distribution(task.setup(spec()), unseen), 1 / SIZE)


def test_tables_do_not_depend_on_batches_and_order(drawn: Store) -> None:
    """Use bigrams, which cross no windows: their counts add up to the same in any order and any batches."""
    task = NGram(n=2)
    expected = train_model(task, drawn).tables
    rows = len(drawn.split("train"))
    for fit in ({"batch": rows, "shards": 3}, {"order": "shuffled", "seed": 3}):
        tables = train_model(task, drawn, **fit).tables
        assert all(np.array_equal(tables[name], expected[name]) for name in expected)
    assert expected["1-grams"][1].sum() == rows * STEPS


def test_a_batch_of_stretches_counts_across_windows(drawn: Store) -> None:
    rows = drawn.split("train").array("token")
    task, each = NGram(n=4), len(rows) // 6
    tables = train_model(task, drawn, batch=6, shards=4).tables
    expected = sum((count_ngrams(join_windows(rows[j * each : (j + 1) * each]), 4) for j in range(6)), Counter())
    assert {k: tables[f"{k}-grams"][1].sum() for k in range(1, 5)} == {
        k: sum(count for gram, count in expected.items() if len(gram) == k) for k in range(1, 5)
    }
    assert tables["4-grams"].shape[1] == len([gram for gram in expected if len(gram) == 4])


def test_each_step_is_predicted_before_it_is_counted(drawn: Store, tmp_path: Path) -> None:
    task = NGram(n=3)
    engine.fit(
        task, spec(tuple(drawn.manifest["classes"])), Feed(drawn.split("train")), None, tmp_path,
        epochs=1, batch=10, shards=2, order="sequential", log_every=1,
    )  # fmt: skip
    losses = [metrics.values["train/loss"] for metrics in journal.read_metrics(tmp_path)]
    assert losses[0] == pytest.approx(math.log(SIZE))
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    rows = drawn.split("train").array("token")
    each = len(rows) // 10
    counts = sum((count_ngrams(join_windows(rows[j * each : j * each + 1]), 3) for j in range(10)), Counter())
    second = [join_windows(rows[j * each : j * each + 2]) for j in range(10)]
    expected = [
        -math.log(probability(counts, tuple(text[at - 2 : at]), text[at], 1.0, 3))
        for text in second
        for at in range(STEPS + 1, 2 * STEPS + 1)
    ]
    assert losses[1] == pytest.approx(np.mean(expected), rel=1e-5)


def test_rows_that_are_not_consecutive_start_a_new_text(drawn: Store) -> None:
    task = NGram(n=4)
    state = train_model(task, drawn)
    rows = torch.from_numpy(drawn.split("test").array("token").copy())

    def nll(*chosen: int, numbered: bool = True) -> np.ndarray:
        index = torch.tensor(chosen)
        return task.predict(state, {"token": rows[index]} | ({"row": index} if numbered else {}))["nll"].numpy()

    apart = np.concatenate([nll(row) for row in (3, 4, 6)])
    assert np.array_equal(nll(3, 4, 6)[[0, 2]], apart[[0, 2]])
    assert not np.array_equal(nll(3, 4, 6)[1], apart[1])
    assert np.array_equal(nll(3, 4, 6, numbered=False), apart)


def test_merging_adds_counts() -> None:
    random = np.random.default_rng(0)
    tables = [np.stack(np.unique(random.integers(0, 50, size), return_counts=True)) for size in (0, 1, 40, 400)]
    for old in tables:
        for new in tables:
            expected = Counter(dict(old.T.tolist())) + Counter(dict(new.T.tolist()))
            assert merge_counts(old, new).T.tolist() == [[key, expected[key]] for key in sorted(expected)]


def test_the_best_tables_survive_interruptions(drawn: Store, tmp_path: Path) -> None:
    """Count the same text in six epochs: the model becomes overconfident, so the last epoch is not the best."""
    task = NGram(n=5, smoothing=20.0)
    feeds = Feed(drawn.split("train")), Feed(drawn.split("test"))
    classes = spec(tuple(drawn.manifest["classes"]))
    fit = {"epochs": 6, "batch": 10, "order": "sequential", "keep": "best"}

    def run(folder: Path, *stops: int | None) -> engine.Outcome:
        folder.mkdir()
        for stop in stops:
            outcome = engine.fit(task, classes, *feeds, folder, until=stop, **fit)
        return outcome

    uninterrupted = run(tmp_path / "uninterrupted", None)
    interrupted = run(tmp_path / "interrupted", 7, 50, 85, None)
    scores = [
        metrics.values["validation/perplexity"]
        for metrics in journal.read_metrics(tmp_path / "uninterrupted")
        if "validation/perplexity" in metrics.values
    ]
    assert len(scores) == 6
    assert uninterrupted.scores["perplexity"] == min(scores) < scores[-1]
    assert evaluation.evaluate(task, uninterrupted.state, feeds[1])[0] == uninterrupted.scores
    tensors = [
        checkpoint.read_checkpoint(checkpoint.list_checkpoints(tmp_path / name)[0])[0]
        for name in ("uninterrupted", "interrupted")
    ]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert interrupted.scores == uninterrupted.scores


def test_ngrams_beyond_64_bits_are_refused() -> None:
    with pytest.raises(Refusal, match="20-grams of 28 tokens do not fit into 64 bits"):
        NGram(n=20).setup(spec(tuple(map(str, range(28)))))


def test_drawings_and_sampled_text(drawn: Store) -> None:
    task = NGram(n=3, prefix="ab", sample=3000)
    state = train_model(task, drawn)
    drawings = task.draw(state, {}, {})
    lines = drawings["zipf"].axes[0].lines
    assert [line.get_label() for line in lines] == ["unigrams", "bigrams", "trigrams"]
    for k, line in enumerate(lines, 1):
        assert sorted(line.get_ydata().tolist()) == sorted(state.tables[f"{k}-grams"][1].tolist())
        assert (np.diff(line.get_ydata()) <= 0).all()
    sample = drawings["sample"]
    assert sample.startswith("ab")
    assert len(sample) == 3002
    assert sample == task.draw(state, {}, {})["sample"]
    triples = zip(sample, sample[1:], sample[2:], strict=False)
    likely = np.mean([c == "abcd"[(ord(b) + 2 * ord(a)) % 4] for a, b, c in triples])
    assert likely == pytest.approx(0.7 + 0.3 / 4, abs=0.05)


def test_all_tokens_are_equally_likely_before_training(drawn: Store) -> None:
    task, feed = NGram(n=3), Feed(drawn.split("test"))
    scores, predictions = evaluation.evaluate(task, task.setup(spec()), feed)
    assert scores["perplexity"] == pytest.approx(SIZE)
    assert predictions["nll"].shape == (len(feed), STEPS)
    assert evaluation.evaluate(task, train_model(task, drawn), feed)[0]["perplexity"] < 0.7 * SIZE
