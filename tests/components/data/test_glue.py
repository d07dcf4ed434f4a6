"""The files of GLUE, WNUT-17 and XQuAD: what a line means, splits by article, and lines that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data.glue import GLUE, SHEETS, parse_fields
from components.data.wnut17 import WNUT17, read_conll
from components.data.xquad import XQuAD, read_article
from components.errors import Refusal

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_files = pytest.mark.skipif(not (SHARED / "sst2").is_dir(), reason=f"the original files are not in {SHARED}")


def test_a_line_becomes_an_example() -> None:
    fields = ["7", "It rains.", "It is wet.", "entailment"]
    assert parse_fields(fields, SHEETS["rte"], "f") == {"text": "It rains.", "pair": "It is wet.", "label": 1}
    assert parse_fields(["gj04", "0", "*", "Rose a is."], SHEETS["cola"], "f") == {"text": "Rose a is.", "label": 0}
    fields = ["g", "f", "y", "1", "3.250", "One.", "Two.", "licence"]
    assert parse_fields(fields, SHEETS["stsb"], "f") == {"text": "One.", "pair": "Two.", "score": 3.25}


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("sst2", "1", "f: line 3 has too few fields between tabs .1.; correct or remove it"),
        ("sst2", "2\tfine", "f: line 3: '2' is not one of 0, 1; correct or remove it"),
        ("sst2", "1\t ", "f: line 3: its text is empty"),
        ("rte", "7\tIt rains.\t\tentailment", "f: line 3: its pair is empty"),
        ("stsb", "g\tf\ty\t1\tmuch\tOne.\tTwo.", "f: line 3: 'much' is not a score"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_its_place(task: str, line: str, message: str) -> None:
    with pytest.raises(Refusal, match=message) as refused:
        parse_fields(line.split("\t"), SHEETS[task], "f: line 3")
    assert "\n" not in str(refused.value)


def test_words_and_tags_are_read_between_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_text("Ann\tB-person\nis\tO\n\t\n\nhere\tO\n")
    first, second = read_conll(file, WNUT17.classes)
    assert first["text"] == "Ann is"
    assert [WNUT17.classes[tag] for tag in first["tags"]] == ["B-person", "O"]
    assert second["text"] == "here"
    file.write_text("Ann\tB-person\nis\tX\n")
    with pytest.raises(Refusal, match="line 2: 'X' is not one of O, B-corporation"):
        list(read_conll(file, WNUT17.classes))
    file.write_text("Ann B-person\n")
    with pytest.raises(Refusal, match="line 1 has no word, a tab and a tag"):
        list(read_conll(file, WNUT17.classes))


def test_an_answer_must_be_where_the_file_says() -> None:
    question = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 3}]}
    article = {"paragraphs": [{"context": "It Ann", "qas": [question]}]}
    assert next(iter(read_article(article, "f")))["start"] == 3
    question["answers"][0]["answer_start"] = 2
    with pytest.raises(Refusal, match="f: question q1: its answer is not at 2"):
        list(read_article(article, "f"))


@needs_files
def test_the_original_files_have_the_known_sizes() -> None:
    sizes = {
        "sst2": (66_714, 635, 872),
        "cola": (7_250, 1_301, 1_043),
        "rte": (1_244, 139, 1_384),
        "wnli": (518, 117, 71),
        "stsb": (5_749, 1_500, 1_379),
    }
    for task, expected in sizes.items():
        rows = GLUE(task, str(SHARED)).rows
        assert tuple(len(rows[split]) for split in ("train", "validation", "test")) == expected
    few = GLUE("sst2", str(SHARED), train=500, words=8).rows["train"]
    more = GLUE("sst2", str(SHARED), train=900, words=8).rows["train"]
    assert len(few) == 500
    assert all(len(row["text"].split()) >= 8 for row in few)
    assert {row["text"] for row in few} <= {row["text"] for row in more}
    with pytest.raises(Refusal, match="train: wnli has only 518 training examples"):
        _ = GLUE("wnli", str(SHARED), train=1000).rows


@needs_files
def test_entities_and_articles_have_the_known_sizes() -> None:
    rows = WNUT17(str(SHARED)).rows
    assert [len(part) for part in rows.values()] == [3_394, 1_009, 1_287]
    assert all(len(row["text"].split()) == len(row["tags"]) for part in rows.values() for row in part)
    assert np.mean([row["tags"].any() for row in rows["test"]]) > 0.3
    rows = XQuAD(raw=str(SHARED)).rows
    assert sum(map(len, rows.values())) == 1_190
    contexts = [{row["context"] for row in part} for part in rows.values()]
    assert not (contexts[0] & contexts[1])
    assert not (contexts[0] & contexts[2])
    assert not (contexts[1] & contexts[2])
    assert sum(map(len, contexts)) == 240
