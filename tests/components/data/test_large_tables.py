"""Tables that are several times as large as the memory are prepared, in the same way as small ones."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from components.data import table, text_columns
from components.data.parallel import Parallel
from components.data.parallel_text import ParallelText
from components.data.sentence_table import SentenceTable
from components.data.series_table import SeriesTable
from components.data.table import TableFormat, read_table
from components.data.text_table import TextTable
from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store

ROOT = Path(__file__).parents[3]
MEMORY = 32 << 20  # bytes that preparing may take beyond the imports
# The same where a row group of Parquet, a part of whole sentences or blocks of 400 columns are in memory at a time
MORE_MEMORY = 96 << 20
PREPARE = """\
import json, resource, sys
from functools import partial
from pathlib import Path
import pyarrow, pyarrow.csv, pyarrow.parquet, charset_normalizer
from components.data.parallel import Parallel
from components.data.parallel_text import ParallelText
from components.data.sentence_table import SentenceTable
from components.data.series_table import SeriesTable
from components.data import parallel, sentence_table, table
from components.data.text_table import TextTable
from components.storage.dataset import prepare_dataset

# Parts hold whole sentences, and they are long here
parallel.ROWS_PER_PART = sentence_table.ROWS_PER_PART = 512
table.BLOCK = table.HEAD = 1 << 16
kind, arguments, memory = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # it gives memory back at once
# Threads, whose stacks count as memory, and modules come with the first table
pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)
lines = [f"text {row},{'ab'[row % 2]}" for row in range(40)]
Path("first.csv").write_text("\\n".join(["text,label", *lines]))
prepare_dataset(TextTable("first.csv", "text", "label"), "first")
pyarrow.parquet.write_table(pyarrow.table({"text": lines, "label": lines}), "first.parquet")
table.read_table(Path("first.parquet"))
kinds = {"text": TextTable, "series": SeriesTable, "sentences": SentenceTable}
if kind == "parallel":
    dataset = Parallel(partial(ParallelText, **arguments), length=4, min_count=9)
else:
    dataset = kinds[kind](**arguments)
used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
print(json.dumps(prepare_dataset(dataset, "out")["splits"]))
"""


def prepare_limited(kind: str, arguments: dict[str, Any], folder: Path, memory: int = MEMORY) -> dict[str, Any]:
    """Return the splits of a data set that a process with little memory prepares into folder/out."""
    command = [sys.executable, "-c", PREPARE, kind, json.dumps(arguments), str(memory)]
    # By default the C library keeps blocks of a megabyte that are free again
    allocation = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}
    environment = os.environ | allocation | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def write_texts(file: Path, rows: int, width: int) -> None:
    """Write texts of `width` letters that no two rows share, with the class at their begin."""
    with file.open("w", encoding="utf-16" if file.suffix == ".csv" else "utf-8") as out:
        if file.suffix == ".csv":
            out.write("text,label\n")
        for row in range(rows):
            text = f"{'good' if row % 2 else 'bad'} {row} " + "na " * (width // 3)
            label = "ab"[row % 2]
            out.write(
                f"{text},{label}\n" if file.suffix == ".csv" else json.dumps({"text": text, "label": label}) + "\n"
            )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_texts_of_several_times_the_memory(tmp_path: Path, suffix: str) -> None:
    rows, width = (12_000 if suffix == "csv" else 24_000), 14_400  # two bytes per letter in UTF-16
    file = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        with parquet.ParquetWriter(file, pa.schema([("text", pa.string()), ("label", pa.string())])) as writer:
            for start in range(0, rows, 500):
                numbers = range(start, start + 500)
                noise = np.random.default_rng(start).integers(97, 123, (500, width)).astype(np.uint8)
                texts = [f"{'good' if n % 2 else 'bad'} {noise[n - start].tobytes().decode()}" for n in numbers]
                writer.write_table(pa.table({"text": texts, "label": ["ab"[n % 2] for n in numbers]}))
        tokens: Any = "char"
    else:
        write_texts(file, rows, width)
        tokens = "word"
    memory, times = (MORE_MEMORY, 2.5) if suffix == "parquet" else (MEMORY, 10)
    assert file.stat().st_size > times * memory
    arguments = {"file": str(file), "text": "text", "label": "label", "length": 4, "tokens": tokens}
    splits = prepare_limited("text", arguments, tmp_path, memory)
    assert sum(split["rows"] for split in splits.values()) == rows
    assert not list((tmp_path / ".trainyard").iterdir())  # the file of columns has no name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sentences", "parallel"])
def test_sentences_of_several_times_the_memory(tmp_path: Path, kind: str) -> None:
    rows, width = 24_000, 14_400
    if kind == "sentences":
        write_texts(tmp_path / "a.jsonl", rows, width)
        arguments: dict[str, Any] = {"file": "a.jsonl", "text": "text", "label": "label"}
    else:
        for language in ("en", "fr"):
            with (tmp_path / f"a.{language}").open("w") as out:
                out.writelines(f"{language} {row} " + "na " * (width // 6) + "\n" for row in range(rows))
        arguments = {"files": ["a.en", "a.fr"]}
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 3 * MORE_MEMORY
    splits = prepare_limited(kind, arguments, tmp_path, MORE_MEMORY)
    assert sum(split["rows"] for split in splits.values()) == rows


@pytest.mark.slow
def test_a_series_of_several_times_the_memory(tmp_path: Path) -> None:
    rows, columns = 80_000, 400
    values = np.random.default_rng(0).normal(size=(1000, columns))
    block = "\n".join(",".join(f"{value:.9f}" for value in row) for row in values) + "\n"
    with (tmp_path / "a.csv").open("w") as out:
        out.write(",".join(f"c{number}" for number in range(columns)) + "\n")
        out.writelines([block] * (rows // 1000))
    assert (tmp_path / "a.csv").stat().st_size > 3 * MORE_MEMORY
    names = [f"c{number}" for number in range(8)]
    arguments = {"file": str(tmp_path / "a.csv"), "columns": names, "window": 8, "horizon": 2, "stride": 4}
    splits = prepare_limited("series", arguments, tmp_path, MORE_MEMORY)
    assert splits["train"]["rows"] > 4000


def test_columns_on_disk_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small tables be many blocks on disk, and compare with one block in memory."""
    monkeypatch.chdir(tmp_path)
    lines = [f'{i % 3},"text {i} ""q"",\nline",{i * 0.5},' for i in range(400)]
    (tmp_path / "a.csv").write_text("\n".join(["label,text,x,", *lines, "1,2,3,4,5"]))
    records = [{"a": i, "b": {"c": f"é{i}", "d": [i]}, **({"late": 1} if i > 300 else {})} for i in range(400)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n{oops")
    parquet.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    series = [f"{i},{'' if i in (5, 99, 100) else i * 1.5}" for i in range(300)]
    (tmp_path / "s.csv").write_text("\n".join(["t,x", *series]))

    (tmp_path / "p.en").write_text("\n".join(f"sentence {i}" if i % 9 else "" for i in range(300)))
    (tmp_path / "p.fr.gz").write_bytes(gzip.compress("\r\n".join(f"la phrase {i}" for i in range(300)).encode()))

    def read_all(out: Path) -> tuple[Any, ...]:
        tables = [read_table(tmp_path / f"a.{suffix}") for suffix in ("csv", "jsonl", "parquet")]
        data = TextTable("a.csv", "text", "label", bad="skip", length=5)
        digests = [prepare_dataset(data, out / "texts")["digest"]]
        sentences = SentenceTable("a.csv", "text", label="label", bad="skip", limit=100)
        digests.append(prepare_dataset(sentences, out / "sentences")["digest"])
        pairs = Parallel(partial(ParallelText, ["p.en", "p.fr.gz"], bad="skip", test=0.2), length=5)
        digests.append(prepare_dataset(pairs, out / "pairs")["digest"])
        data = SeriesTable("s.csv", ["x"], time="t", window=7, horizon=2, stride=3, missing="previous")
        digests.append(prepare_dataset(data, out / "series")["digest"])
        return [({n: list(v) for n, v in t.columns.items()}, t.faults, t.notes) for t in tables], digests

    expected = read_all(tmp_path / "memory")
    assert list(expected[0][1][0]) == ["a", "b.c", "b.d", "late"]
    assert expected[0][1][0]["b.d"][2] == "[2]"
    assert [len(faults) for _, faults, _ in expected[0]] == [1, 1, 0]
    windows = Store(tmp_path / "memory" / "series").split("train").array("x")
    assert windows[0, 5, 0] == windows[0, 4, 0] == 6
    monkeypatch.setattr(text_columns, "SPILL", 0)
    monkeypatch.setattr(table, "BLOCK", 64)
    monkeypatch.setattr(table, "HEAD", 64)
    monkeypatch.setattr(table, "ROWS", 7)
    monkeypatch.setattr(text_columns, "BATCH_ROWS", 5)
    assert read_all(tmp_path / "disk") == expected


def test_a_row_longer_than_a_block_is_read(tmp_path: Path) -> None:
    long = "x" * (3 << 20)
    (tmp_path / "a.csv").write_text(f'text,label\n"{long}",a\nshort,b\n')
    columns = read_table(tmp_path / "a.csv", TableFormat(header=True)).columns
    assert list(map(len, map(str, columns["text"]))) == [3 << 20, 5]


def test_a_table_in_several_packed_files_is_one(tmp_path: Path) -> None:
    lines = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "all.csv").write_text("\n".join(["text,label", *lines]))
    for part in (0, 1):
        content = "\n".join(["text,label", *lines[20 * part : 20 * part + 20]])
        (tmp_path / f"part-{part}.csv.gz").write_bytes(gzip.compress(content.encode()))
    parts = TextTable(str(tmp_path / "part-*.csv.gz"), "text", "label")
    joined = TextTable(str(tmp_path / "all.csv"), "text", "label")
    assert parts.own == [tmp_path / "part-0.csv.gz", tmp_path / "part-1.csv.gz"]
    assert parts.files.locate(21) == f"{tmp_path}/part-1.csv.gz row 3"
    assert prepare_dataset(parts, tmp_path / "a")["digest"] == prepare_dataset(joined, tmp_path / "b")["digest"]
    (tmp_path / "part-2.csv.gz").write_bytes(gzip.compress(b"text,label\na,b")[:-9])
    with pytest.raises(Refusal, match=r"part-2\.csv\.gz: damaged"):
        _ = TextTable(str(tmp_path / "part-*.csv.gz"), "text", "label").texts
    with pytest.raises(Refusal, match=r"test_file: .*none-\*\.csv is not a file; name a table"):
        TextTable(str(tmp_path / "all.csv"), "text", "label", test_file=str(tmp_path / "none-*.csv"))


def test_rows_are_written_together_by_number_and_by_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_columns, "BATCH_ROWS", 3)
    monkeypatch.setattr(text_columns, "BATCH_LETTERS", 10)
    rows = [("a",), ("b",), (None,), ("x" * 10,), ("y" * 5,), ("z" * 5,), ("c",)]
    batches = list(text_columns.batch_rows(rows))
    assert [len(batch) for batch in batches] == [3, 1, 2, 1]
    assert [row for batch in batches for row in batch] == rows
