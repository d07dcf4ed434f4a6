"""Pairs of passages: half follow, rows are full, documents stay in one split, maskings differ, vocabulary of train."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from components.augment.masking import Masking
from components.data.docstrings import Docstrings
from components.data.manual import Manual, cut_sentences
from components.data.sentence_pairs import EXTRA, SentencePairs
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.tokens.wordpiece import MARKS, WordPiece


class Numbered:
    """Documents whose sentences say where they are: `d7 s3 w0 w1 w2 w3`."""

    name, licence, source = "numbered", "CC0", "written here"

    def __init__(self, count: int = 30, length: int = 60) -> None:
        self.count = count
        self.length = length

    def documents(self) -> list[list[str]]:
        words = [" ".join(f"w{n}" for n in range(2 + s % 5)) for s in range(self.length)]
        return [[f"d{d} s{s} {words[s]}" for s in range(self.length)] for d in range(self.count)]


def build(of=Numbered, **options) -> SentencePairs:
    return SentencePairs(of, partial(WordPiece, size=600), Masking, **({"length": 48} | options))


@pytest.fixture(scope="module")
def pairs() -> SentencePairs:
    return build()


def test_half_of_the_passages_follow_and_the_others_are_of_other_documents(pairs: SentencePairs) -> None:
    vocabulary = pairs.tokenizers["token"].vocabulary
    documents = {token for token in vocabulary if token.startswith("d") and token[1:].isdigit()}
    checked = 0
    for pair in pairs.pairs["train"]:
        first, second = ({vocabulary[n] for n in part} & documents for part in (pair.first, pair.second))
        if first and second:
            checked += 1
            assert (first != second) == pair.unrelated
            assert len(first) == len(second) == 1
    assert checked > 200
    share = np.mean([pair.unrelated for pair in pairs.pairs["train"]])
    assert share == pytest.approx(0.5, abs=0.08)


def test_every_sentence_is_a_first_passage_or_follows_one(pairs: SentencePairs) -> None:
    """Check that the sentences that an unrelated passage replaced begin the next pair."""
    tokenizer = pairs.tokenizers["token"]
    text = " ".join(
        tokenizer.decode(part)
        for pair in pairs.pairs["train"]
        for part in ((pair.first,) if pair.unrelated else (pair.first, pair.second))
    )
    train = pairs.documents["train"]
    present = sum(
        f"{sentence.split()[0]} {sentence.split()[1]} " in text for document in train for sentence in document
    )
    assert present > 0.8 * sum(map(len, train))  # the rest lost its start where the longer passage was cut


def test_rows_are_full_but_for_the_short_ones(pairs: SentencePairs) -> None:
    rows = list(pairs.examples("train", 0))
    filled = np.array([(row["token"] != 0).sum() for row in rows])
    assert (filled == 48).mean() > 0.8
    assert filled.mean() / 48 > 0.9
    assert len(rows) == 5 * len(pairs.pairs["train"])


def test_each_masking_of_a_row_hides_other_tokens_of_the_same_text(pairs: SentencePairs) -> None:
    rows = list(pairs.examples("train", 0))
    count = len(pairs.pairs["train"])
    texts, hidden = [], []
    for row in rows[0::count]:
        token = row["token"].copy()
        real = row["target"] != 0
        token[row["position"][real]] = row["target"][real]
        texts.append(token)
        hidden.append(frozenset(row["position"][real].tolist()))
        sep = np.flatnonzero(token == MARKS.index("[SEP]"))
        assert row["segment"].tolist() == [int(sep[0] < n <= sep[1]) for n in range(48)]
    assert all(np.array_equal(text, texts[0]) for text in texts)
    assert len(set(hidden)) == 5
    again = list(pairs.examples("train", 0))
    assert all(np.array_equal(a["token"], b["token"]) for a, b in zip(rows, again, strict=True))


def test_the_vocabulary_knows_nothing_of_held_out_documents(pairs: SentencePairs, tmp_path: Path) -> None:
    assert [len(part) for part in pairs.documents.values()] == [24, 3, 3]
    assert "d5" in pairs.classes
    assert "d29" not in pairs.classes
    prepare_dataset(build(maskings=1), tmp_path)
    assert Store(tmp_path).tokenizers()["token"] == pairs.tokenizers["token"].json


def test_too_few_documents_and_too_short_rows_are_refused() -> None:
    with pytest.raises(Refusal, match="split 'train' has 1 documents"):
        _ = build(partial(Numbered, count=5)).documents
    with pytest.raises(Refusal, match=rf"data.length: 5 leaves no room for two passages; use {EXTRA + 3}"):
        build(length=5)


def test_the_manual_and_the_docstrings_have_documents_without_repetitions() -> None:
    for source in (Manual(), Docstrings(limit=25)):
        documents = source.documents()
        assert len(documents) > 15
        assert all(sentence.strip() for document in documents for sentence in document)
    assert cut_sentences('One is. Two "is": Three? no. 4') == ["One is.", 'Two "is":', "Three? no. 4"]
