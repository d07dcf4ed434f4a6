"""Tables of texts, pairs and numbers over time are recognised, and proposed as a recipe that can be prepared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.data.table import read_table
from components.inspection import table_layouts
from components.recipes import recipe
from components.storage.dataset import Dataset
from tests.components.inspection.layouts import inspect, prepare


def test_a_table_of_texts(tmp_path: Path) -> None:
    lines = [f"{'spam' if i % 5 == 0 else 'ham'},“word” number {i} of the set," for i in range(60)]
    lines += ["ham,the same text twice,", "spam,the same text twice,", "ham,text,with more"]
    (tmp_path / "a.csv").write_bytes("\r\n".join(["v1,v2,", *lines]).encode("cp1252"))
    findings = inspect(tmp_path / "a.csv")
    assert findings.counts["rows"] == {"ham": 50, "spam": 13}
    odd = "\n".join(findings.odd)
    assert "read as cp1252" in odd
    assert "1 row has values in columns without a name" in odd
    assert "several labels for the text: the same text twice" in odd
    assert findings.recipe is not None
    assert findings.recipe["data"]["conflicts"] == "drop"
    assert findings.recipe["task"]["weights"] == "balanced"
    assert prepare(findings, tmp_path / "out")["classes"] == ["ham", "spam"]


def test_tables_of_splits_are_used_together(tmp_path: Path) -> None:
    for name, start, count in (("train", 0, 60), ("dev", 60, 9), ("test", 70, 9)):
        lines = [f"{i % 2}\ta text of number {i}" for i in range(start, start + count)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["label\tsentence", *lines]))
    findings = inspect(tmp_path)
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {
        "train": 60,
        "validation": 9,
        "test": 9,
    }


def test_pairs_with_a_class_or_a_score_are_for_a_pretrained_bert(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    lines = [f"the {w} is here now,is there a {w} today,{k % 2},{k / 7:.3f}" for k, w in enumerate("abcdefghij" * 6)]
    file.write_text("\n".join(["premise,claim,entails,likeness", *lines, "alone in here,,1,2"]))
    findings = inspect(file)
    assert findings.recipe is not None
    expected = {"text": "premise", "pair": "claim", "label": "entails", "bad": "skip"}
    assert findings.recipe["data"] == {"use": "data.sentence_table.SentenceTable", "file": str(file)} | expected
    assert findings.recipe["task"]["use"] == "tasks.sentences.SentenceClassification"
    assert findings.odd == [f"{file} row 62: a text, class or score is missing"]
    manifest = prepare(findings, tmp_path / "prepared")
    assert sum(split["rows"] for split in manifest["splits"].values()) == 60
    file.write_text("\n".join(["a\tb\tlikeness", *(f"x {n} y z\tx {n} w v\t{n / 7:.3f}" for n in range(60))]))
    scored = inspect(file).recipe
    assert scored is not None
    assert (scored["data"]["score"], scored["task"]["use"]) == (
        "likeness",
        "tasks.sentence_regression.SentenceRegression",
    )
    mails = tmp_path / "mails.csv"
    mails.write_text("\n".join(["subject,body,spam", *(f"to you {n},{'word ' * 60} {n},{n % 2}" for n in range(60))]))
    other = inspect(mails)
    assert other.recipe is not None
    assert other.recipe["data"]["use"] == "data.text_table.TextTable"
    assert any("data.sentence_table.SentenceTable" in reason for reason in other.reasons)


def test_pairs_in_a_table_and_in_aligned_files(tmp_path: Path) -> None:
    english = [f"this is sentence number {i}" for i in range(80)]
    french = [f"ceci est la phrase numéro {i}" for i in range(80)]
    table, files = tmp_path / "table", tmp_path / "files"
    table.mkdir()
    files.mkdir()
    pairs = [dict(zip(("en", "fr"), pair, strict=True)) for pair in zip(english, french, strict=True)]
    (table / "a.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    for name, lines in (("train.en", english[:60]), ("train.fr", french[:60]), ("val.en", english[60:])):
        (files / name).write_text("\n".join(lines))
    (files / "val.fr").write_text("\n".join(french[60:]))
    for place, pairs_there in ((table / "a.jsonl", "80 pairs"), (files, "60 pairs")):
        findings = inspect(place)
        assert pairs_there in findings.facts
        assert "source" in prepare(findings, tmp_path / "out" / place.name)["columns"]
    (files / "train.fr").write_text("short")
    assert any("60 lines in en and 1 in fr" in line for line in inspect(files).odd)


def test_numbers_over_time(tmp_path: Path) -> None:
    lines = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{np.sin(i):.3f},{i % 7}.5" for i in range(400)]
    lines[50] = lines[50].replace(lines[50].split(",")[1], "", 1)
    (tmp_path / "power.csv").write_text("\n".join(["date,load,heat", *lines]))
    findings = inspect(tmp_path / "power.csv")
    assert findings.layout.startswith("a table of numbers over time")
    assert any("column 'load': empty in 1 row" in line for line in findings.odd)
    manifest = prepare(findings, tmp_path / "out")
    assert manifest["classes"] == ["load", "heat"]


def test_notes_and_constants_beside_numbers_over_time_are_not_texts(tmp_path: Path) -> None:
    lines = [f'2024-01-{1 + i % 28:02d}T{i // 28:02d}:00,"Main St, 5",,{i},{i * i}' for i in range(28)]
    lines[3] = lines[3].replace(",,", ",closed for the day,")
    lines[9] = lines[9].replace(",,", ",open until ten,")
    (tmp_path / "sales.csv").write_text("\n".join(["date,shop,note,visitors,sales", *lines]))
    findings = inspect(tmp_path / "sales.csv")
    assert findings.layout.startswith("a table of numbers over time")
    assert [line.partition(":")[0] for line in findings.odd] == ["column 'shop'", "column 'note'"]
    assert findings.recipe is not None
    assert (findings.recipe["data"]["time"], findings.recipe["data"]["columns"]) == ("date", ["visitors", "sales"])


def test_pairs_without_a_side_share_a_line(tmp_path: Path) -> None:
    lines = [f"this is sentence {i}\t{'' if i in (4, 5, 9) else f'voici la phrase {i}'}" for i in range(40)]
    (tmp_path / "a.tsv").write_text("\n".join(["the English of it\tthe French of it", *lines]))
    findings = inspect(tmp_path / "a.tsv")
    assert findings.odd == ["pairs 5-6, 10 (3): a side is empty"]
    assert findings.reasons[0] == (
        "source: 'the English of it' is taken from the first line; set header: false if that line is a pair, too"
    )


def test_a_long_table_is_examined_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_layouts, "EXAMINED", 100)
    lines = [f"{'ab'[i % 2]},a text of number {i}" for i in range(400)]
    (tmp_path / "a.csv").write_text("\n".join(["label,text", *lines]))
    findings = inspect(tmp_path / "a.csv")
    assert sum(findings.counts["rows"].values()) == 100
    assert f"{tmp_path}/a.csv: the first 100 of 400 rows are examined; a fit reads all" in findings.odd
    manifest = prepare(findings, tmp_path / "out")
    assert sum(split["rows"] for split in manifest["splits"].values()) == 400


def test_pairs_are_found_by_their_names_and_scores_by_their_fractions(tmp_path: Path) -> None:
    long = "a premise with many more words than its hypothesis has, as in corpora of entailment " * 2
    lines = [f"{i}\t{long}{i}\tIs short {i}.\t{'yes' if i % 2 else 'no'}" for i in range(60)]
    (tmp_path / "train.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *lines]))
    (tmp_path / "dev.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *lines[:9], "1\t2"]))
    (tmp_path / "test.tsv").write_text("\n".join(["index\tpremise\tsentence2\tlabel", *lines[:9]]))
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    data = findings.recipe["data"]
    assert (data["text"], data["pair"], data["label"]) == ("sentence1", "sentence2", "label")
    assert (data["validation_file"], data["bad"]) == (str(tmp_path / "dev.tsv"), "skip")
    assert findings.odd == [
        "test.tsv: looks like the test split, but has no column 'sentence1'; not used"
        " (it has 'index', 'premise', 'sentence2', 'label')",
        f"{tmp_path}/dev.tsv row 11: 2 values, not 4",
    ]
    scored = [f"{'ab'[i % 2]}-news;2012;{i};{i % 11 / 2};one sentence {i};another sentence {i}" for i in range(60)]
    (tmp_path / "sts.csv").write_text("\n".join([*scored, *(["a;b;c;d;e;f;g"] * 3), scored[0], "a;b"]))
    findings = inspect(tmp_path / "sts.csv")
    assert findings.recipe is not None
    assert findings.recipe["data"] | {"text": "5", "pair": "6", "score": "4"} == findings.recipe["data"]
    assert findings.odd == [
        f"{tmp_path}/sts.csv rows 61-63 (3): 7 values, not 6",
        f"{tmp_path}/sts.csv row 65: 2 values, not 6",
    ]
    assert "other columns that could be meant: 1" in findings.reasons


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["text_a", "text_b", "note on it"], ("text_a", "text_b")),
        (["data.Question1", "data.Question2"], ("data.Question1", "data.Question2")),
        (["note on it", "hypothesis", "premise"], ("premise", "hypothesis")),
        (["data", "beta", "pizza"], None),
    ],
)
def test_names_of_pairs(tmp_path: Path, names: list[str], pair: tuple[str, str] | None) -> None:
    lines = ["\t".join(f"text {i} of column {name}" for name in names) for i in range(30)]
    (tmp_path / "a.tsv").write_text("\n".join(["\t".join(names), *lines]))
    assert table_layouts.find_pair(read_table(tmp_path / "a.tsv"), names) == pair


def test_a_table_in_several_files_is_one(tmp_path: Path) -> None:
    lines = [f"a text of number {i},{'ab'[i % 2]}" for i in range(90)]
    for name, part in (("train-00000-of-00002", 0), ("train-00001-of-00002", 1), ("test-00000-of-00001", 2)):
        content = "\n".join(["text,label", *lines[30 * part : 30 * part + 30], *["a,b,c"] * part])
        (tmp_path / f"{name}.csv").write_text(content)
    findings = inspect(tmp_path)
    assert sum(findings.counts["rows"].values()) == 60
    assert findings.odd == [
        f"{tmp_path}/train-00001-of-00002.csv row 32: 3 values, not 2",
        f"{tmp_path}/test-00000-of-00001.csv rows 32-33 (2): 3 values, not 2",
    ]
    manifest = prepare(findings, tmp_path / "out")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {"train": 60, "test": 30}


def test_sorted_tables_and_further_splits(tmp_path: Path) -> None:
    pairs = [("Go.", "Va !")] * 2500 + [(f"I saw it {i} times.", f"Je l'ai vu {i} fois.") for i in range(2500)]
    (tmp_path / "fra.txt").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    assert inspect(tmp_path).layout.startswith("a table of sentence pairs")
    (tmp_path / "fra.txt").unlink()
    for name in ("valid", "test"):
        (tmp_path / f"wiki.{name}.txt").write_text("It was the best of times, it was the worst of times. " * 80)
    assert inspect(tmp_path).odd == [
        "wiki.test.txt, wiki.valid.txt: look like splits, but are read as one text; name one as path"
    ]
    for name in ("train", "val", "dev"):
        lines = [f"{name} text of number {i},{'ab'[i % 2]}" for i in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    assert inspect(tmp_path).odd[0] == f"val.csv: not used, because {tmp_path}/dev.csv is the validation split"
    (tmp_path / "squad.json").write_text('{"version": 1,\n"data": []}')
    odd = inspect(tmp_path / "squad.json").odd
    assert odd == [f"{tmp_path}/squad.json: holds neither a JSON object per line nor a list of them; convert it"]


def test_fine_tuning_on_many_pairs_is_proposed_for_some(tmp_path: Path) -> None:
    lines = [f"the first text {i}\tthe second text {i}\t{'ab'[i > 2000]}" for i in range(4000)]
    (tmp_path / "a.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *lines]))
    findings = inspect(tmp_path)
    assert findings.recipe is not None
    assert findings.recipe["data"]["limit"] == 3200
    assert findings.recipe["fit"]["epochs"] == 1
    assert findings.reasons[-1].startswith("limit: 3,200 of 4,000 examples, so that a fit takes minutes")
    del findings.recipe["data"]["limit"]
    data = recipe.build(findings.recipe["data"] | {"limit": 100}, Dataset)
    labels = [example["label"] for example in data.examples("train", 0) if isinstance(example, dict)]
    assert 40 < sum(labels) < 60  # a sorted table has both classes in it


@pytest.mark.parametrize(
    ("label", "odd"),
    [
        (lambda i: "spam", "column 'label': 1 different value in 60 rows, where a label has 2 to 12"),
        (lambda i: f"c{i}", "column 'label': 60 different values in 60 rows, where a label has 2 to 12"),
        (lambda i: f"{i}.5", "column 'label': 60 different values in 60 rows, where a label has 2 to 12"),
    ],
)
def test_it_is_said_why_a_column_is_no_label(tmp_path: Path, label: Callable[[int], str], odd: str) -> None:
    lines = [f"this is the text of number {i},{label(i)}" for i in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]))
    findings = inspect(tmp_path)
    assert findings.recipe is None
    assert findings.odd == [odd]
