"""A user's own texts as a table: formats, encodings, quoting, odd rows; splits that depend on the text alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from components.data.encoding import open_text, read_text
from components.data.table import TableFormat, read_table
from components.data.table_rows import _class_order, list_classes
from components.data.text_table import TextTable, split_words
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.storage.tokenizer_files import count_tokens
from components.tokens.tokenizer import Tokenizer

ROWS = [(f"message {i} says £{i} and “more”", "spam" if i % 4 == 0 else "ham") for i in range(40)]


def write_csv(path: Path, encoding: str = "utf-8", end: str = "\r\n", delimiter: str = ",") -> Path:
    quoted = [f'"{text}"{delimiter}{label}' for text, label in ROWS]
    path.write_bytes(end.join([f"text{delimiter}label", *quoted, ""]).encode(encoding))
    return path


def build(file: Path, **arguments: Any) -> TextTable:
    return TextTable(str(file), **{"text": "text", "label": "label", **arguments})


def pairs(data: TextTable) -> dict[str, list[tuple[str, str]]]:
    """Return {split: (text, label)} of the rows that can be used."""
    return {
        split: [(data.texts[row], data.labels[row]) for row in rows if isinstance(row, int)]
        for split, rows in data.splits.items()
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_encodings_and_line_ends_are_detected(tmp_path: Path, encoding: str, end: str) -> None:
    data = build(write_csv(tmp_path / "a.csv", encoding, end))
    assert list(zip(data.texts, data.labels, strict=True)) == ROWS
    notes = [note for note in data.notes if "read as" in note]
    assert bool(notes) == (encoding in ("utf-16", "cp1252"))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Les élèves français étaient déçus; c’est £5, où ça? "),
        ("cp1251", "Привет, как дела? Это обычный русский текст о погоде и книгах. "),
        ("shift_jis", "これは日本語の文章です。今日は天気がいいですね。"),
        ("gb18030", "这是一个中文句子,今天天气很好。"),
    ],
)
def test_other_encodings_are_detected_by_their_letters(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes((text * 5).encode(encoding))
    assert read_text(tmp_path / "a.txt")[0] == text * 5


def columns_of(file: Path, **form: Any) -> dict[str, list[str | None]]:
    return {name: list(values) for name, values in read_table(file, TableFormat(**form)).columns.items()}


def test_all_formats_hold_the_same_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    write_csv(tmp_path / "b.csv", delimiter=";")
    write_csv(tmp_path / "c.tsv", delimiter="\t")
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    parquet.write_table(pa.table(columns), tmp_path / "d.parquet")
    parquet.write_table(
        pa.table({name: pa.array(v).dictionary_encode() for name, v in columns.items()}), tmp_path / "e.pq"
    )
    lines = [json.dumps({"text": text, "label": label}) for text, label in ROWS]
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    (tmp_path / "g.json").write_text(f"[{', '.join(lines)}]")
    tables = {path.name: columns_of(path) for path in sorted(tmp_path.iterdir())}
    assert len(tables) == 7
    assert all(table == columns for table in tables.values()), [name for name, t in tables.items() if t != columns]


def test_quotes_hold_line_ends_and_delimiters_but_not_in_plain_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"one, two\nthree ""four""",x\nplain,y\n')
    assert columns_of(tmp_path / "a.csv")["text"] == ['one, two\nthree "four"', "plain"]
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Well, he said\tx\nhe left" again\ty\n')
    assert columns_of(tmp_path / "a.tsv")["text"] == ['"Well, he said', 'he left" again']
    assert read_table(tmp_path / "a.csv", TableFormat(delimiter=",", quoting=True)).rows == 2


def test_a_header_is_found_or_stated(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("0\tthe cat\n1\tthe dog\n0\ta fish\n")
    assert columns_of(tmp_path / "a.tsv") == {"1": ["0", "1", "0"], "2": ["the cat", "the dog", "a fish"]}
    (tmp_path / "b.csv").write_text("ham,hello\nspam,buy\nham,you\n")
    assert columns_of(tmp_path / "b.csv")["1"] == ["ham", "spam", "ham"]
    assert columns_of(tmp_path / "b.csv", header=True)["ham"] == ["spam", "ham"]


def test_rows_that_do_not_fit_are_named_all_at_once_or_skipped(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv")
    file.write_text(file.read_text() + "too,many,values\n,ham\nno label,\n")
    with pytest.raises(Refusal) as refused:
        prepare_dataset(build(file), tmp_path / "out")
    text = str(refused.value)
    assert "3 examples can't be read" in text
    for part in ("row 42: 3 values, not 2", "no text in column 'text'", "no label in column 'label'", "bad: skip"):
        assert part in text
    manifest = prepare_dataset(build(file, bad="skip"), tmp_path / "out")
    assert sum(split["rows"] for split in manifest["splits"].values()) == 40
    assert any("3 examples can't be read" in sentence for sentence in manifest["review"])


def test_splits_follow_the_text_and_repeated_rows_stay_together(tmp_path: Path) -> None:
    before = pairs(build(write_csv(tmp_path / "a.csv"), validation=0.2))
    assert set(before) == {"train", "validation", "test"}
    file = tmp_path / "b.csv"
    lines = [f'"{text}",{label}' for text, label in [*ROWS[::-1], ("a new one", "ham"), *ROWS[:10]]]
    file.write_text("\n".join(["text,label", *lines]))
    data = build(file, validation=0.2)
    after = pairs(data)
    assert {split: set(rows) - {("a new one", "ham")} for split, rows in after.items()} == {
        split: set(rows) for split, rows in before.items()
    }
    assert "10 rows repeat an earlier one" in data.notes


def test_splits_are_files_or_a_column_and_groups_stay_together(tmp_path: Path) -> None:
    train, dev = write_csv(tmp_path / "train.csv"), tmp_path / "dev.csv"
    dev.write_text("text,label\nanother text,ham\n")
    data = build(train, validation_file=str(dev))
    assert pairs(data)["validation"] == [("another text", "ham")]
    assert data.locate("validation", 0) == f"{dev} row 2"
    (tmp_path / "c.csv").write_text(
        "text,label,part\n" + "".join(f"t {i},{i % 2},{['train', 'dev', 'test'][i % 3]}\n" for i in range(30))
    )
    sizes = {split: len(rows) for split, rows in build(tmp_path / "c.csv", split="part").splits.items()}
    assert sizes == {"train": 10, "validation": 10, "test": 10}
    (tmp_path / "d.csv").write_text("text,label,who\n" + "".join(f"t {i},{i % 2},w{i // 4}\n" for i in range(80)))
    data = build(tmp_path / "d.csv", group="who")
    who = data.files.column("who", "group")
    by_split = [{who[row] for row in rows if isinstance(row, int)} for rows in data.splits.values()]
    assert len(by_split) == 2
    assert not by_split[0] & by_split[1]


def test_the_vocabulary_comes_from_the_training_split_and_cut_texts_are_counted(tmp_path: Path) -> None:
    data = build(write_csv(tmp_path / "a.csv"), length=5)
    manifest = prepare_dataset(data, tmp_path / "out")
    store = Store(tmp_path / "out")
    tokenizer = Tokenizer(store.tokenizers()["token"])
    assert tokenizer.vocabulary[:2] == ["<pad>", "<unk>"]
    words = {token for text, _ in pairs(data)["train"] for token in split_words(text).split()}
    assert set(tokenizer.vocabulary[2:]) == words
    assert "40 examples are longer than 5 tokens and are cut (length)" in manifest["review"]
    row = store.split("train").take(np.array([0]))
    assert tokenizer.decode(row["token"][0].tolist()).split() == split_words(pairs(data)["train"][0][0]).split()[:5]
    assert count_tokens(tokenizer.json) == len(tokenizer)
    store.verify()


def test_contradicting_labels_are_refused_by_their_rows(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv")
    file.write_text(file.read_text() + f'"{ROWS[0][0]}",ham\n')
    with pytest.raises(
        Refusal, match=r"2 examples have the same content but different labels: .*a\.csv row 2 \(spam\)"
    ):
        prepare_dataset(build(file), tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "texte"}, r"text: .*a\.csv has no column 'texte' \(did you mean 'text'\?\); it has 'text', 'label'"),
        ({"test": 0.6, "validation": 0.4}, "leave nothing to train on"),
        ({"encoding": "klingon"}, "encoding: 'klingon' is not one that Python knows"),
        ({"encoding": "ascii"}, r"a\.csv: byte 0x\w\w is not ascii"),
        ({"group": "who"}, "group: .* has no column 'who'"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        data = build(write_csv(tmp_path / "a.csv"), **arguments)
        assert data.splits


@pytest.mark.parametrize("content", [b"", b"\0\1\2\xff" * 50, b"text,label\n"])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "xlsx"])
def test_files_that_are_no_tables_get_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    with pytest.raises(Refusal, match=r"a\.|file: no row remains"):
        assert build(file).splits


def test_the_order_of_classes_does_not_depend_on_that_of_the_rows() -> None:
    """Check "nan", which Python reads as a number that is neither below nor above any other."""
    names = ["3", "nan", "1", "NaN", "2", "b", "inf"]
    orders = {tuple(sorted(names[turn:] + names[:turn], key=_class_order)) for turn in range(len(names))}
    assert orders == {("1", "2", "3", "inf", "NaN", "b", "nan")}
    assert list_classes(names) == list(*orders)


@pytest.mark.parametrize("name", ["", "**a.csv"])
def test_a_name_that_is_not_even_a_pattern_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match=r"^file: .* is not a file; name a table$"):
        TextTable(name, text="text", label="label")


def test_an_error_of_the_reader_is_not_taken_for_an_unknown_encoding(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv")
    with pytest.raises(KeyError), open_text(file):
        raise KeyError("a mistake of our own")
    for name in ("no-such", "base64"):
        with pytest.raises(Refusal, match=f"^encoding: '{name}' is not one that Python knows"), open_text(file, name):
            pass
