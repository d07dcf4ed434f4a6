"""The number that a message gives a row of a table is the one that its file shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.data.table import TableFormat, join_tables, read_table
from components.data.text_table import TextTable
from components.inspection.table_layouts import cut_table


@pytest.mark.parametrize(
    ("name", "content", "numbers"),
    [
        ("a.csv", "text,label\na,x\nb,y\n", [2, 3]),
        ("a.csv", "text,label\na,x\ntoo,many,values\nb,y\nfew\nfew\nc,z\n", [2, 4, 7]),
        ("a.csv", "text,label\nfew\na,x\nb,y\n", [3, 4]),
        ("a.tsv", "1\tx\n2\ty\n", [1, 2]),
        ("a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n[]\nno\n{"text": "c"}\n', [1, 3, 6]),
        ("a.json", '[{"text": "a"}, 3, {"text": "b"}]', [1, 3]),
    ],
)
def test_rows_are_numbered_as_in_their_file(tmp_path: Path, name: str, content: str, numbers: list[int]) -> None:
    (tmp_path / name).write_text(content)
    table = read_table(tmp_path / name, TableFormat(header=not name.endswith("tsv")))
    assert [table.locate(row) for row in range(table.rows)] == [f"{tmp_path / name} row {n}" for n in numbers]


def test_rows_of_joined_and_of_cut_tables_are_those_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in "ab":
        (tmp_path / f"{part}.csv").write_text("text,label\none,x\nfew\ntwo,y\n")
    joined = join_tables(tmp_path / "*.csv", [read_table(tmp_path / f"{part}.csv") for part in "ab"])
    expected = [f"{tmp_path}/{part}.csv row {row}" for part in "ab" for row in (2, 4)]
    assert [joined.locate(row) for row in range(joined.rows)] == expected
    monkeypatch.setattr("components.inspection.table_layouts.EXAMINED", 3)
    assert [cut_table(joined).locate(row) for row in range(3)] == expected[:3]


def test_a_row_without_a_text_is_named_by_its_number_behind_rows_that_do_not_fit(tmp_path: Path) -> None:
    rows = [f"{i},ham" for i in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", "few", *rows, ",spam"]))
    data = TextTable(str(tmp_path / "a.csv"), "text", "label", bad="skip")
    faults = [entry.reason for entries in data.splits.values() for entry in entries if not isinstance(entry, int)]
    assert [fault.partition(":")[0] for fault in faults] == [f"{tmp_path}/a.csv row {row}" for row in (2, 23)]
