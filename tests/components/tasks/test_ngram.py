"""Counts and the smoothing formula against brute force; the same tables however the text is cut and shared."""

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
from components.tasks.ngram import NGram, merged
from components.training import checkpoint, engine
from components.training.task import Spec, State

VOCABULARY = ("<unk>", *"abcd")
SIZE, STEPS = len(VOCABULARY), 4


class Drawn:
    """Letters that depend on the two before them."""

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


def learned(task: NGram, store: Store, **fit) -> State:
    fit = {"epochs": 1, "batch": 1, "order": "sequential", **fit}
    return engine.fit(task, spec(tuple(store.manifest["classes"])), Feed(store.split("train")), **fit).state


def running(rows: np.ndarray) -> list[int]:
    """The text of consecutive windows."""
    return [*rows[:, :-1].reshape(-1).tolist(), int(rows[-1, -1])]


def counted(text: list[int], n: int) -> Counter:
    """n-grams of every length, of all tokens but the first, which nothing predicts."""
    return Counter(tuple(text[end - k : end]) for k in range(1, n + 1) for end in range(max(2, k), len(text) + 1))


def formula(counts: Counter, context: tuple[int, ...], token: int, smoothing: float, n: int) -> float:
    """The notes' formula, from the longest context that there is down to 1 / vocabulary."""
    p = 1 / SIZE
    for k in range(1, n + 1):
        if k - 1 > len(context):
            break
        seen = context[len(context) - k + 1 :]
        total = sum(counts[(*seen, other)] for other in range(SIZE))
        p = (counts[(*seen, token)] + smoothing * p) / (total + smoothing)
    return p


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_counts_and_probabilities_by_brute_force(n: int, drawn: Store) -> None:
    """Also with contexts longer than a window."""
    task = NGram(n=n, smoothing=0.7)
    state = learned(task, drawn)
    counts = counted(running(drawn.split("train").array("token")), n)
    found = {}
    for k in range(1, n + 1):
        for key, count in state.tables[f"{k}-grams"].T.tolist():
            found[tuple(key // SIZE ** (k - 1 - place) % SIZE for place in range(k))] = count
    assert found == dict(counts)
    text = running(drawn.split("test").array("token"))
    scores, predictions = engine.evaluate(task, state, Feed(drawn.split("test")))
    wanted = [
        -math.log(formula(counts, tuple(text[max(0, at - n + 1) : at]), text[at], 0.7, n)) for at in range(1, len(text))
    ]
    assert np.allclose(predictions["nll"].reshape(-1), wanted, atol=1e-5)
    assert scores["perplexity"] == pytest.approx(math.exp(np.mean(wanted)), rel=1e-5)
    after = [
        max(
            range(SIZE),
            key=lambda token: formula(counts, tuple(text[: at + 1][-n + 1 :] if n > 1 else ()), token, 0.7, n),
        )
        for at in range(STEPS, len(text), STEPS)
    ]
    assert predictions["token"].tolist() == after


@pytest.mark.parametrize("n", [1, 2, 4])
def test_probabilities_sum_to_one_and_agree_with_the_loss(n: int, drawn: Store) -> None:
    task = NGram(n=n, smoothing=2.0)
    state = learned(task, drawn)
    rows = drawn.split("test").array("token")
    known = np.concatenate([task.earlier(rows, torch.arange(len(rows))), rows], axis=1)
    width = known.shape[1]
    p = task.distribution(state, known[:, width - n : width - 1])  # -1 where the text has not begun
    assert np.allclose(p.sum(1), 1)
    assert np.allclose(-np.log(p[np.arange(len(rows)), rows[:, -1]]), task.nll(state, known)[:, -1])
    never = np.full((1, n - 1), SIZE - 1)
    assert np.allclose(task.distribution(task.setup(spec()), never), 1 / SIZE)


def test_tables_do_not_depend_on_how_the_windows_are_shared(drawn: Store) -> None:
    """In any order, in one batch or many, the windows' own n-grams add up to the same."""
    task = NGram(n=2)  # that cross no windows
    wanted = learned(task, drawn).tables
    rows = len(drawn.split("train"))
    for fit in ({"batch": rows, "shards": 3}, {"order": "shuffled", "seed": 3}):
        tables = learned(task, drawn, **fit).tables
        assert all(np.array_equal(tables[name], wanted[name]) for name in wanted)
    assert wanted["1-grams"][1].sum() == rows * STEPS


def test_a_batch_of_stretches_counts_across_windows(drawn: Store) -> None:
    rows = drawn.split("train").array("token")
    task, each = NGram(n=4), len(rows) // 6
    tables = learned(task, drawn, batch=6, shards=4).tables
    wanted = sum((counted(running(rows[j * each : (j + 1) * each]), 4) for j in range(6)), Counter())
    assert {k: tables[f"{k}-grams"][1].sum() for k in range(1, 5)} == {
        k: sum(count for gram, count in wanted.items() if len(gram) == k) for k in range(1, 5)
    }
    assert tables["4-grams"].shape[1] == len([gram for gram in wanted if len(gram) == 4])


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
    counts = sum((counted(running(rows[j * each : j * each + 1]), 3) for j in range(10)), Counter())
    second = [running(rows[j * each : j * each + 2]) for j in range(10)]
    wanted = [
        -math.log(formula(counts, tuple(text[at - 2 : at]), text[at], 1.0, 3))
        for text in second
        for at in range(STEPS + 1, 2 * STEPS + 1)
    ]
    assert losses[1] == pytest.approx(np.mean(wanted), rel=1e-5)


def test_rows_that_do_not_follow_begin_anew(drawn: Store) -> None:
    task = NGram(n=4)
    state = learned(task, drawn)
    rows = torch.from_numpy(drawn.split("test").array("token").copy())

    def nll(*chosen: int, numbered: bool = True) -> np.ndarray:
        index = torch.tensor(chosen)
        return task.predict(state, {"token": rows[index]} | ({"row": index} if numbered else {}))["nll"].numpy()

    apart = np.concatenate([nll(row) for row in (3, 4, 6)])
    assert np.array_equal(nll(3, 4, 6)[[0, 2]], apart[[0, 2]])
    assert not np.array_equal(nll(3, 4, 6)[1], apart[1])
    assert np.array_equal(nll(3, 4, 6, numbered=False), apart)


def test_merging_adds_like_counters() -> None:
    random = np.random.default_rng(0)
    tables = [np.stack(np.unique(random.integers(0, 50, size), return_counts=True)) for size in (0, 1, 40, 400)]
    for old in tables:
        for new in tables:
            wanted = Counter(dict(old.T.tolist())) + Counter(dict(new.T.tolist()))
            assert merged(old, new).T.tolist() == [[key, wanted[key]] for key in sorted(wanted)]


def test_the_best_tables_are_kept_also_by_a_run_that_goes_on(drawn: Store, tmp_path: Path) -> None:
    """Text that is counted again and again is trusted too much: the last epoch is not the best."""
    task = NGram(n=5, smoothing=20.0)
    feeds = Feed(drawn.split("train")), Feed(drawn.split("test"))
    classes = spec(tuple(drawn.manifest["classes"]))
    fit = {"epochs": 6, "batch": 10, "order": "sequential", "keep": "best"}

    def run(folder: Path, *stops: int | None) -> engine.Outcome:
        folder.mkdir()
        for stop in stops:
            outcome = engine.fit(task, classes, *feeds, folder, until=stop, **fit)
        return outcome

    whole, halting = run(tmp_path / "whole", None), run(tmp_path / "halting", 7, 50, 85, None)
    scores = [
        metrics.values["validation/perplexity"]
        for metrics in journal.read_metrics(tmp_path / "whole")
        if "validation/perplexity" in metrics.values
    ]
    assert len(scores) == 6
    assert whole.scores["perplexity"] == min(scores) < scores[-1]
    assert engine.evaluate(task, whole.state, feeds[1])[0] == whole.scores
    kept = [
        checkpoint.read_checkpoint(checkpoint.list_checkpoints(tmp_path / name)[0])[0] for name in ("whole", "halting")
    ]
    assert kept[0].keys() == kept[1].keys()
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    assert halting.scores == whole.scores


def test_what_does_not_fit_into_64_bits_is_refused() -> None:
    with pytest.raises(Refusal, match="20-grams of 28 tokens have no 64-bit number"):
        NGram(n=20).setup(spec(tuple(map(str, range(28)))))


def test_pictures_and_samples(drawn: Store) -> None:
    task = NGram(n=3, prefix="ab", sample=3000)
    state = learned(task, drawn)
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


def test_before_any_text_all_tokens_are_equally_likely(drawn: Store) -> None:
    task, feed = NGram(n=3), Feed(drawn.split("test"))
    scores, predictions = engine.evaluate(task, task.setup(spec()), feed)
    assert scores["perplexity"] == pytest.approx(SIZE)
    assert predictions["nll"].shape == (len(feed), STEPS)
    assert engine.evaluate(task, learned(task, drawn), feed)[0]["perplexity"] < 0.7 * SIZE
