"""Check the rows, the error per memory length, and that a window cannot see beyond itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from components.data.recall import Recall as Rows
from components.errors import Refusal
from components.models.reader import Reader
from components.models.recurrent import Recurrent
from components.models.window import Window
from components.optimizers import adam
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.recall import Recall, errors_by_memory
from components.training import engine
from components.training.task import Spec

LENGTH, LETTERS, NOISE = 6, 4, 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("recall")
    prepare_dataset(Rows(LENGTH, LETTERS, NOISE, train=600, validation=0, test=400), folder)
    return Store(folder)


def test_the_label_is_the_only_letter_and_lies_as_far_back_as_said(store: Store) -> None:
    split = store.split("train")
    token, label, memory = (split.array(name) for name in ("token", "label", "memory"))
    assert (token[np.arange(600), LENGTH - memory] == label).all()
    assert ((token < LETTERS).sum(1) == 1).all()
    assert token.max() == LETTERS + NOISE - 1
    assert np.bincount(memory, minlength=LENGTH + 1)[1:].min() > 60
    assert not np.array_equal(token[:400], store.split("test").array("token"))
    with pytest.raises(Refusal, match="letters: with 1 there is nothing to remember"):
        Rows(letters=1)


def test_errors_are_counted_by_memory() -> None:
    targets = {"label": np.array([0, 1, 2, 3, 0]), "memory": np.array([2, 5, 2, 5, 2])}
    assert errors_by_memory(np.array([0, 0, 2, 3, 1]), targets) == {2: pytest.approx(1 / 3), 5: 0.5}


@pytest.mark.parametrize("window", [1, 3])
def test_a_window_sees_its_last_tokens_alone(window: int) -> None:
    net = Window(7, window=window)
    tokens = torch.randint(7, (5, LENGTH))
    changed = tokens.clone()
    changed[:, : LENGTH - window] = 6 - changed[:, : LENGTH - window]
    assert torch.equal(net(tokens)[0], net(changed)[0])
    changed[:, LENGTH - window] = (changed[:, LENGTH - window] + 1) % 7
    assert not torch.isclose(net(tokens)[0], net(changed)[0]).all(2).any()


@pytest.mark.parametrize("kind", ["cnn", "self-attention"])
def test_a_reader_gives_logits_at_every_position(kind: str) -> None:
    logits, states = Reader(7, 5, kind, hidden=8)(torch.randint(7, (2, LENGTH)))
    assert logits.shape == (2, LENGTH, 5)
    assert states == {}
    step = 4 if kind == "self-attention" else 2
    assert Reader(7, 5, kind, hidden=12)(torch.randint(7, (2, LENGTH)))[0].shape == (2, LENGTH, 5)
    with pytest.raises(Refusal, match=f"task.model.hidden: 15 is not a multiple of {step}, as kind: {kind} needs"):
        Reader(7, 5, kind, hidden=15)


def test_a_window_longer_than_a_row_is_refused() -> None:
    spec = Spec({"token": (LENGTH,)}, ("a", "b"), {})
    Recall(partial(Window, window=LENGTH)).setup(spec)
    with pytest.raises(Refusal, match=r"task\.model\.window: 7 is more than the 6 tokens of a row; lower it"):
        Recall(partial(Window, window=LENGTH + 1)).setup(spec)


def test_a_state_remembers_what_a_window_cannot_see(store: Store, tmp_path: Path) -> None:
    errors = {}
    for name, model in {"window": partial(Window, window=3), "gru": partial(Recurrent, hidden=32)}.items():
        task = Recall(model, partial(adam, lr=0.01))
        spec = Spec({"token": (LENGTH,)}, tuple(store.manifest["classes"]), {})
        feeds = [Feed(store.split(split)) for split in ("train", "test")]
        out = engine.fit(task, spec, *feeds, epochs=15, batch=30, clip=1.0, evaluate_every=15)
        errors[name] = [out.scores[f"error_{memory:02d}"] for memory in range(1, LENGTH + 1)]
    assert max(errors["window"][:3]) < 0.1
    assert min(errors["window"][3:]) > 0.5, "one of four letters can be guessed"
    assert max(errors["gru"]) < 0.3
