"""Pairs of passages: half follow, rows are full, documents stay in one split, maskings differ, vocabulary of train."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from components.augment.masking import Masking
from components.data.docstrings import Docstrings
from components.data.manual import Manual
from components.data.sentence_pairs import EXTRA, SentencePairs
from components.data.text import cut_sentences
from components.data.text_file import TextFile
from components.data.wikitext2 import WikiText2, read_articles
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
    assert len(rows) == len(pairs.pairs["train"])
    assert len(rows) == pytest.approx(5 * len(build(maskings=1).pairs["train"]), rel=0.05)


def test_each_round_has_other_pairs_and_hides_other_tokens_of_the_same_documents(pairs: SentencePairs) -> None:
    rows = list(pairs.examples("train", 0))
    mark = MARKS.index("[SEP]")
    for row, pair in zip(rows, pairs.pairs["train"], strict=True):
        token = row["token"].copy()
        real = row["target"] != 0
        token[row["position"][real]] = row["target"][real]
        sep = np.flatnonzero(token == mark)
        assert token[1 : sep[0]].tolist() == pair.first.tolist()
        assert token[sep[0] + 1 : sep[1]].tolist() == pair.second.tolist()
        assert row["segment"].tolist() == [int(sep[0] < n <= sep[1]) for n in range(48)]
    texts = [tuple(pair.first.tolist()) for pair in pairs.pairs["train"] if len(pair.first) > 5]
    assert len(set(texts)) > 0.7 * len(texts)  # with equal pairs in each round: 0.2
    again = list(pairs.examples("train", 0))
    assert all(np.array_equal(a["token"], b["token"]) for a, b in zip(rows, again, strict=True))


def test_unknown_words_are_never_to_be_predicted(pairs: SentencePairs) -> None:
    unknown = MARKS.index("[UNK]")
    source = build(partial(Numbered, count=12))
    source.documents["train"][0] = ["d0 [UNK] s1 [UNK] w0", *source.documents["train"][0]]
    rows = list(source.examples("train", 0))
    assert sum((row["token"] == unknown).any() for row in rows) > 0
    assert not any((row["target"] == unknown).any() for row in rows)


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
    assert cut_sentences("Да. Это так! Нет") == ["Да.", "Это так!", "Нет"]
    assert cut_sentences("我来了。你好吗？") == ["我来了。", "你好吗？"]


def test_a_folder_of_texts_is_a_document_per_file_and_a_file_one_per_paragraph(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"File {name} is\nhere. It has two lines.\n\nA title\n\nIt ends.\n")
    document = ["File a is here.", "It has two lines.", "A title", "It ends."]
    assert TextFile(str(tmp_path)).documents()[0] == document
    assert TextFile(str(tmp_path / "a.txt")).documents() == [document[:2], ["A title"], ["It ends."]]
    with pytest.raises(Refusal, match="split 'train' has 0 documents, but unrelated passages come from another"):
        _ = build(partial(TextFile, str(tmp_path))).documents
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match=r"empty holds no text file \(.md, .text, .txt\)"):
        TextFile(str(tmp_path / "empty")).documents()


WIKI = """
 = Lobster =

 The lobster is a <unk> animal . It weighs 0 @.@ 7 kg .

 = = Use = =

 It is eaten .

 = Crab =

 The crab walks .
"""


def test_wikitext_has_articles_in_their_own_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = WIKI.replace("\n\n", "\n \n").replace(" =\n", " = \n")
    assert read_articles(text) == [
        ["The lobster is a [UNK] animal .", "It weighs 0.7 kg .", "It is eaten ."],
        ["The crab walks ."],
    ]
    monkeypatch.setattr("components.data.wikitext2.fetch_file", lambda folder, name, *_: tmp_path / name)
    for name in ("valid.txt", "test.txt"):
        (tmp_path / name).write_text(text.replace("crab", name))
    source = build(partial(WikiText2, train="valid"))
    assert {split: len(part) for split, part in source.documents.items()} == {"train": 2, "test": 2}
    assert "The test.txt walks ." in source.documents["test"][1]
    assert source.documents["train"][1] == ["The valid.txt walks ."]
    with pytest.raises(Refusal, match=r"train.txt: missing; save https.* or set train: valid"):
        WikiText2(str(tmp_path)).splits()
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "train.txt").write_text("another text")
    with pytest.raises(Refusal, match=r"train.txt: its digest in git is \w{40}, expected 2d84b35af7"):
        WikiText2(str(tmp_path)).splits()
