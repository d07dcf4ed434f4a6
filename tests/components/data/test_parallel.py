"""Parallel corpora as rows: tokens, padding, vocabularies from the training split alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from components.data import parallel as module
from components.data.parallel import Parallel, decode_text, decode_tokens, sentence_lengths
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.storage.vocabulary import BOS, EOS, PAD, SPECIAL, UNK, split_vocabularies
from components.tokens.bpe import BPE
from components.tokens.wordpiece import WordPiece

PAIRS = {
    "train": [("a b a", "x-y x"), ("b a", "y"), ("c", "x-y-z")],
    "test": [("a d", "x w <pad> z"), ("a b a b a b", "-y")],
}


class Written:
    name, licence, source = "written", "CC0", "written here"

    def __init__(self, pairs: dict[str, list[tuple[str, str]]]) -> None:
        self._pairs = pairs

    def pairs(self) -> dict[str, list[tuple[str, str]]]:
        return self._pairs


def corpus(**options) -> Parallel:
    return Parallel(partial(Written, PAIRS), **options)


def rows(data: Parallel, split: str) -> dict[str, list[list[int]]]:
    examples = [e for part in range(data.parts()[split]) for e in data.examples(split, part)]
    return {name: [example[name].tolist() for example in examples] for name in ("source", "target")}


def test_vocabularies_hold_special_tokens_then_training_tokens_by_frequency() -> None:
    data = corpus()
    assert data.vocabularies == ([*SPECIAL, "a", "b", "c"], [*SPECIAL, "x", "-y", "-z", "y"])
    assert split_vocabularies(data.classes) == data.vocabularies
    assert SPECIAL == ("<pad>", "<unk>", "<bos>", "<eos>")
    assert corpus(min_count=2).vocabularies == ([*SPECIAL, "a", "b"], [*SPECIAL, "x", "-y"])


def test_rows_are_tokens_end_and_padding_or_cut() -> None:
    encoded = rows(corpus(length=5), "test")
    a, b, unknown, w = 4, 5, UNK, UNK
    assert encoded["source"] == [[a, unknown, EOS, PAD, PAD], [a, b, a, b, a]]
    x = 4
    assert encoded["target"][0] == [
        x,
        w,
        UNK,
        UNK,
        EOS,
    ]  # "<pad>" in a text is not padding; `z` never was a word of its own
    assert sentence_lengths(np.array(encoded["source"])).tolist() == [3, 5]


def test_what_looks_special_in_a_text_is_unknown() -> None:
    data = Parallel(partial(Written, {"train": [("<bos> <pad> a <eos>", "b")]}), length=6)
    assert rows(data, "train")["source"] == [[UNK, UNK, 4, UNK, EOS, PAD]]
    assert data.classes.count("<bos>") == 2


def test_rows_decode_to_their_text() -> None:
    pairs = [("eighty-one thousand", "quatre-vingt-un mille"), ("two - three", "deux - trois")]
    for kind in ("word", "char"):
        data = Parallel(partial(Written, {"train": pairs}), kind, length=24)
        encoded = rows(data, "train")
        for pair, source, target in zip(pairs, encoded["source"], encoded["target"], strict=True):
            assert (decode_text(source, data.vocabularies[0]), decode_text(target, data.vocabularies[1])) == pair
    assert decode_tokens([4, EOS, 4], data.vocabularies[0]) == [data.vocabularies[0][4]]
    assert BOS not in np.concatenate([*rows(data, "train").values()])


@pytest.mark.parametrize("trainer", [partial(BPE, size=290), partial(WordPiece, size=40)])
def test_parts_of_words_know_words_that_training_lacks(trainer: partial, tmp_path: Path) -> None:
    pairs = {"train": [("low lower", "neu neuer")] * 3, "test": [("lowest <bos>", "neuerer slower")]}
    data = Parallel(partial(Written, pairs), trainer, length=40)
    (source,), (target,) = rows(data, "test").values()
    decoded = data.tokenizers["target"].decode(number for number in target if number > UNK and number != EOS)
    assert trainer.func is WordPiece or decoded == "neuerer slower"
    assert split_vocabularies(data.classes) == data.vocabularies
    assert source.count(EOS) == 1
    assert BOS not in source, "a mark in a text is unknown"
    only = Parallel(partial(Written, {"train": pairs["train"]}), trainer, length=40)
    assert {name: tokenizer.json for name, tokenizer in data.tokenizers.items()} == {
        name: tokenizer.json for name, tokenizer in only.tokenizers.items()
    }
    prepare_dataset(data, tmp_path)
    assert Store(tmp_path).tokenizers() == {name: tokenizer.json for name, tokenizer in data.tokenizers.items()}


def test_rows_are_the_same_in_any_number_of_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = corpus(length=4)
    expected = rows(data, "train")
    monkeypatch.setattr(module, "ROWS_PER_PART", 2)
    assert data.parts() == {"train": 2, "test": 1}
    assert rows(data, "train") == expected
    prepare_dataset(data, tmp_path)
    store = Store(tmp_path)
    assert store.split("train").array("target").tolist() == expected["target"]
    assert store.manifest["classes"] == data.classes


def test_impossible_corpora_are_refused() -> None:
    with pytest.raises(Refusal, match="written: has no pairs to train on"):
        Parallel(partial(Written, {"test": PAIRS["test"]})).parts()
    with pytest.raises(Refusal, match="data: not a parallel corpus"):
        split_vocabularies(["<unk>", "a"])
