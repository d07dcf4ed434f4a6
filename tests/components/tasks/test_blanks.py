"""Check which tokens are hidden, the loss of the blanks alone, and that both sides of a blank help."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from components.data.text import Text
from components.models.recurrent import Recurrent
from components.optimizers import adam
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.blanks import BLANK, FillBlanks
from components.training import engine, evaluation
from components.training.task import Shard, Spec

CLASSES = ("<unk>", *"abc")
WINDOW = 9
SPEC = Spec({"token": (WINDOW,)}, CLASSES, {})


class Palindromes:
    """Letters a, b, c in random triples xyx: the first of a triple is known from the last, and from nothing before."""

    name, licence, source = "palindromes", "CC0", "written here"

    def text(self) -> str:
        pairs = np.random.default_rng(0).choice(list("abc"), (1200, 2))
        return "".join(f"{first}{second}{first}" for first, second in pairs)


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("triples")
    prepare_dataset(Text(Palindromes, steps=WINDOW - 1, validation=0.0, test=0.25), folder)
    return Store(folder)


def build(bidirectional: bool = True, layers: int = 1) -> FillBlanks:
    model = partial(Recurrent, hidden=16, layers=layers, bidirectional=bidirectional)
    return FillBlanks(model, partial(adam, lr=0.02), blanks=0.2)


def test_blanks_follow_from_the_row_and_the_step() -> None:
    task, rows = build(), torch.arange(500)
    tokens = torch.ones(500, WINDOW, dtype=torch.long)
    tokens[:, 3] = BLANK
    first, again, later = (task._blank_positions(tokens, rows, step) for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(task._blank_positions(tokens[7:8], rows[7:8], 0)[0], first[7])
    assert not torch.equal(first, later)
    assert not first[:, 3].any(), "an unknown token has no answer"
    assert first.float().mean().item() == pytest.approx(0.2 * 8 / 9, abs=0.02)
    chance = (first & later).float().mean().item()
    assert chance == pytest.approx(0.04 * 8 / 9, abs=0.01)


def test_the_loss_is_the_mean_over_the_blanks() -> None:
    task = build()
    state = task.setup(SPEC)
    tokens = torch.randint(1, 4, (5, WINDOW), generator=torch.Generator().manual_seed(0))
    shard = Shard({"row": torch.arange(5), "token": tokens}, torch.Generator(), 0)
    loss, metrics = task.loss(state, shard)
    blank = task._blank_positions(tokens, torch.arange(5), 0)
    total, correct = 0.0, 0
    for row, position in blank.nonzero().tolist():
        hidden = torch.where(blank[row], BLANK, tokens[row])
        logits = state.modules["net"](hidden[None])[0][0, position]
        total -= logits.log_softmax(0)[tokens[row, position]].item()
        correct += int(logits.argmax() == tokens[row, position])
    assert shard.weight == blank.sum() > 3
    assert loss.item() == pytest.approx(total / int(blank.sum()), rel=1e-5)
    assert metrics["accuracy"].item() == pytest.approx(correct / int(blank.sum()))


def test_a_window_without_blanks_has_no_loss() -> None:
    task = build()
    shard = Shard({"row": torch.arange(1), "token": torch.zeros(1, WINDOW)}, torch.Generator(), 0)
    loss, _ = task.loss(task.setup(SPEC), shard)
    assert loss.item() == 0
    assert shard.weight == 0


def test_a_served_model_fills_unknown_tokens_and_nothing_else() -> None:
    task = build()
    state = task.setup(SPEC)
    with torch.no_grad():
        filled = task.predict(state, {"token": torch.tensor([[1, 2, BLANK, 3, 1, BLANK, 1, 1, 2]])})
    assert filled["blank"][0].nonzero()[:, 0].tolist() == [2, 5]
    tokens = filled["token"][0].tolist()
    assert [tokens[at] for at in (0, 1, 3, 4, 6, 7, 8)] == [1, 2, 3, 1, 1, 1, 2]
    assert BLANK not in tokens


def test_both_sides_of_a_blank_help(triples: Store, tmp_path: Path) -> None:
    """A bidirectional model knows two thirds of the letters from their triple; the other one knows only the last."""
    scores = {}
    for bidirectional in (True, False):
        task = build(bidirectional)
        feeds = [Feed(triples.split(name)) for name in ("train", "test")]
        out = engine.fit(task, SPEC, *feeds, epochs=12, batch=20, clip=1.0, evaluate_every=12)
        scores[bidirectional] = out.scores["accuracy"]
    # Windows do not begin at triples, and a partner may be blank, too.
    assert scores[True] > scores[False] + 0.1
    text = task.draw(out.state, *drawn_inputs(task, out.state, triples))["filled"].split("\n")
    assert len(text) == 4 * 8
    assert {len(line) for line in text} == {0, WINDOW}
    assert "_" in "".join(text[1::4])


def drawn_inputs(task: FillBlanks, state, store: Store) -> tuple[dict, dict]:
    feed = Feed(store.split("test"))
    return evaluation.evaluate(task, state, feed)[1], evaluation.target_columns(task, feed)
