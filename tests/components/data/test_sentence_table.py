"""A user's own sentences and pairs for fine-tuning: columns, splits, faults, and a BERT that learns from them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data.sentence_table import SentenceTable
from components.errors import Refusal
from components.models.bert import BERT
from components.optimizers import adamw
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.tasks.sentence_regression import SentenceRegression
from components.tasks.sentences import SentenceClassification
from components.tokens.wordpiece import MARKS, WordPiece
from components.training.task import Spec

WORDS = ("river", "stone", "cloud", "paper")


def write_pairs(file: Path, count: int = 60) -> Path:
    """Write pairs whose label says whether both begin with the same word."""
    lines = ["first;second;same;score"]
    for n in range(count):
        a, b = WORDS[n % 4], WORDS[n // 4 % 4]
        lines.append(f"{a} number {n};{b} number {n};{'yes' if a == b else 'no'};{n % 6 / 2}")
    file.write_text("\n".join(lines) + "\n")
    return file


def build(file: Path, **arguments: Any) -> SentenceTable:
    return SentenceTable(str(file), **{"text": "first", "pair": "second", "label": "same"} | arguments)


def test_pairs_keep_their_texts_and_get_a_class_or_a_score(tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.csv")
    data = build(file)
    assert data.classes == ["no", "yes"]
    rows = [row for split in data.splits for row in data.examples(split, 0)]
    assert len(rows) == 60
    assert {"text": "cloud number 2", "pair": "river number 2", "label": 0} in rows
    assert {"text": "river number 0", "pair": "river number 0", "label": 1} in rows
    scores = build(file, label=None, score="score", limit=7)
    assert scores.classes == []
    assert sum(1 for _ in scores.examples("train", 0)) == 7
    assert {row["score"] for row in scores.examples("test", 0)} <= {0.0, 0.5, 1.0, 1.5, 2.0, 2.5}
    sentences = build(file, pair=None)
    assert list(sentences.columns) == ["text", "label"]


def test_a_split_depends_on_both_texts_alone(tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.csv")
    before = [row["text"] for row in build(file).examples("test", 0)]
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *reversed(lines[1:]), lines[1]]) + "\n")
    changed = build(file)
    assert sorted({row["text"] for row in changed.examples("test", 0)}) == sorted(before)
    assert "1 row repeats an earlier one" in changed.notes


@pytest.mark.parametrize(
    ("line", "arguments", "message"),
    [
        ("a b;;yes;1", {}, "pairs.csv row 62: no text in column 'second'"),
        ("a b;c;;1", {}, "pairs.csv row 62: no label in column 'same'"),
        ("a b;c;yes;much", {"label": None, "score": "score"}, "row 62: 'much' in column 'score' is not a number"),
        ("a b;c;yes;nan", {"label": None, "score": "score"}, "row 62: 'nan' in column 'score' is not a number"),
    ],
)
def test_rows_without_a_value_are_refused_or_skipped(tmp_path: Path, line: str, arguments: dict, message: str) -> None:
    file = write_pairs(tmp_path / "pairs.csv")
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(Refusal, match="1 example can't be read") as refusal:
        prepare_dataset(build(file, **arguments), tmp_path / "out")
    assert message in str(refusal.value)
    prepare_dataset(build(file, bad="skip", **arguments), tmp_path / "out")
    assert sum(split["rows"] for split in Store(tmp_path / "out").manifest["splits"].values()) == 60


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.csv")
    with pytest.raises(Refusal, match="label: name the column with the class as label, or the one with a number"):
        build(file, score="score")
    with pytest.raises(Refusal, match=r"pair: .* has no column 'secnd'.*did you mean 'second'"):
        _ = build(file, pair="secnd").texts
    with pytest.raises(Refusal, match=r"column 'first' has 300 different values, not 2 to 100"):
        _ = build(write_pairs(tmp_path / "many.csv", 300), label="first").classes


@pytest.mark.parametrize("kind", [SentenceClassification, SentenceRegression])
def test_tasks_read_the_table(tmp_path: Path, kind: type) -> None:
    """Check one forward pass on each kind of target; learning is the business of test_finetuning.py."""
    file = write_pairs(tmp_path / "pairs.csv")
    data = build(file) if kind is SentenceClassification else build(file, label=None, score="score")
    rows = list(data.examples("test", 0))
    batch = {name: np.array([row[name] for row in rows]).tolist() for name in data.columns} | {"row": rows}
    tokenizer = WordPiece(200).train([row["text"] for row in rows], MARKS)
    task = kind(model=partial(BERT, width=16, layers=1, heads=2, inner=16, positions=32), optimizer=adamw, length=32)
    columns = {name: column.shape for name, column in data.columns.items()}
    state = task.setup(Spec(columns, tuple(data.classes), {}, tokenizers={"text": tokenizer.json}))
    state.modules["net"].eval()
    predictions = {name: value.detach().numpy() for name, value in task.predict(state, batch).items()}
    target = {name: np.array([row[name] for row in rows]) for name in data.columns}
    assert {"accuracy", "spearman"} & task.score(predictions, target).keys()
