"""Part files: columns of any shape come back unchanged, misfits are refused, no partial file is left behind."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.errors import Refusal
from components.storage import part as module
from components.storage.column import DTYPES, Column
from components.storage.part import Part, write_part
from tests.fuzz.child import run_limited

COLUMNS = {
    "image": Column("uint8", (3, 4, 2)),
    "label": Column("int64"),
    "boxes": Column("float32", (None, 4)),
    "tokens": Column("int32", (None,)),
    "text": Column("utf8"),
}
in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)


def examples(count: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        {
            "image": random.integers(0, 256, (3, 4, 2), dtype=np.uint8),
            "label": int(random.integers(5)),
            "boxes": random.random((random.integers(4), 4), dtype=np.float32),
            "tokens": random.integers(0, 99, random.integers(6)).astype(np.int32),
            "text": "".join(random.choice(list("aß字🙂 "), random.integers(5))),
        }
        for _ in range(count)
    ]


def same(values: Any, expected: list[Any]) -> bool:
    return len(values) == len(expected) and all(np.array_equal(a, b) for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize("rows_per_batch", [1, 7, 1024])
def test_any_rows_of_any_column_come_back(tmp_path: Path, rows_per_batch: int) -> None:
    rows_in = examples(50)
    write_part(tmp_path / "a.arrow", COLUMNS, rows_in, rows_per_batch)
    part = Part(tmp_path / "a.arrow")
    assert part.rows == 50
    assert part.columns == COLUMNS
    for rows in (np.arange(50), np.array([49, 0, 7, 7, 13]), np.array([], dtype=np.int64)):
        for name, column in COLUMNS.items():
            values = part.take(name, rows)
            assert same(values, [rows_in[row][name] for row in rows]), name
            if column.has_fixed_shape:
                assert values.dtype == column.dtype
                assert values.shape == (len(rows), *column.inner_shape)


@in_tmp_path
@given(data=st.data(), dtype=st.sampled_from(DTYPES), shape=arrays.array_shapes(min_dims=0, max_dims=3, max_side=4))
def test_every_number_type_keeps_its_bits(tmp_path: Path, data: st.DataObject, dtype: str, shape: tuple) -> None:
    stack = data.draw(arrays.arrays(dtype, (5, *shape)))
    write_part(tmp_path / "a.arrow", {"x": Column(dtype, shape)}, ({"x": row} for row in stack), rows_per_batch=2)
    values = Part(tmp_path / "a.arrow").take("x", np.array([4, 3, 2, 1, 0]))
    assert values.tobytes() == stack[::-1].tobytes()  # compares bits, because NaN is not equal to itself


@in_tmp_path
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_any_text_comes_back(tmp_path: Path, texts: list[str]) -> None:
    write_part(tmp_path / "a.arrow", {"text": Column("utf8")}, ({"text": text} for text in texts), rows_per_batch=3)
    assert Part(tmp_path / "a.arrow").take("text", np.arange(len(texts))) == texts


def test_any_arrow_reader_sees_the_same(tmp_path: Path) -> None:
    rows = examples(9)
    write_part(tmp_path / "a.arrow", COLUMNS, rows, rows_per_batch=4)
    table = pa.ipc.open_file(tmp_path / "a.arrow").read_all().to_pydict()
    assert table["text"] == [example["text"] for example in rows]
    assert table["label"] == [example["label"] for example in rows]
    assert table["image"] == [example["image"].reshape(-1).tolist() for example in rows]
    assert table["boxes"] == [example["boxes"].tolist() for example in rows]


def test_the_summary_describes_the_file(tmp_path: Path) -> None:
    rows = examples(20)
    summary = write_part(tmp_path / "a.arrow", COLUMNS, rows)
    blob = (tmp_path / "a.arrow").read_bytes()
    assert (summary.file, summary.rows, summary.bytes) == ("a.arrow", 20, len(blob))
    assert summary.sha256 == hashlib.sha256(blob).hexdigest()
    labels = [example["label"] for example in rows]
    assert summary.class_counts == {label: labels.count(label) for label in set(labels)}


def test_the_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    write_part(tmp_path / "a.arrow", COLUMNS, examples(10), rows_per_batch=4)
    part = Part(tmp_path / "a.arrow")
    views = part.arrays("image")
    assert [len(view) for view in views] == [4, 4, 2]
    assert all(np.shares_memory(view, part.bytes) and not view.flags.writeable for view in views)


def test_large_examples_start_a_new_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 100)
    rows = [{"x": np.full(60, i, np.uint8)} for i in range(5)]
    write_part(tmp_path / "a.arrow", {"x": Column("uint8", (60,))}, rows)
    part = Part(tmp_path / "a.arrow")
    assert [batch.num_rows for batch in part.batches] == [2, 2, 1]
    assert part.take("x", np.array([4, 1]))[:, 0].tolist() == [4, 1]


def test_no_examples_make_an_empty_part(tmp_path: Path) -> None:
    write_part(tmp_path / "a.arrow", COLUMNS, [])
    part = Part(tmp_path / "a.arrow")
    assert part.rows == 0
    assert part.take("image", np.arange(0)).shape == (0, 3, 4, 2)
    assert part.take("text", np.arange(0)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((3, 4), np.uint8)}, r"column 'image' must be uint8\[3, 4, 2\], not uint8\[3, 4\]"),
        ({"image": np.zeros((3, 4, 2))}, "not float64"),
        ({"boxes": np.zeros((2, 5), np.float32)}, r"float32\[\*, 4\], not float32\[2, 5\]"),
        ({"label": 1.5}, "column 'label' must be int64"),
        ({"label": 2**63}, "column 'label' must be int64"),
        ({"text": b"bytes"}, "must be a string, not bytes"),
        ({"extra": 1}, "has image, .*, extra; the data set declares"),
    ],
)
def test_an_example_that_does_not_fit_is_refused_by_number(tmp_path: Path, change: dict, message: str) -> None:
    rows = [*examples(3), examples(1)[0] | change]
    with pytest.raises(Refusal, match=message) as refusal:
        write_part(tmp_path / "a.arrow", COLUMNS, rows)
    assert "example 3" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [("float99", ()), ("uint8", (0,)), ("uint8", (2, None)), ("utf8", (3,))])
def test_impossible_columns_are_refused(bad: tuple) -> None:
    with pytest.raises(Refusal, match="column"):
        Column(*bad)


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_part(tmp_path / "a.arrow", COLUMNS, examples(3))

    def failing() -> Iterator[dict[str, Any]]:
        yield from examples(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path / "a.arrow", COLUMNS, failing(), rows_per_batch=2)
    assert [file.name for file in tmp_path.iterdir()] == ["a.arrow"]
    assert Part(tmp_path / "a.arrow").rows == 3


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "a.arrow", COLUMNS, examples(6), rows_per_batch=3)
    blob = (tmp_path / "a.arrow").read_bytes()
    for size in [0, 1, 5, 7, 8, *range(9, len(blob), 97), len(blob) - 1]:
        (tmp_path / "cut.arrow").write_bytes(blob[:size])
        with pytest.raises(Refusal, match=r"cut\.arrow: damaged, or not a part file \(.+\); run the prepare stage"):
            Part(tmp_path / "cut.arrow")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="is missing"):
        Part(tmp_path / "none.arrow")
    (tmp_path / "text.arrow").write_text("hello " * 100)
    with pytest.raises(Refusal, match="not a part file"):
        Part(tmp_path / "text.arrow")
    table = pa.table({"x": [1, 2]})
    with pa.ipc.new_file(tmp_path / "plain.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(Refusal, match="not a part file"):
        Part(tmp_path / "plain.arrow")


def patch(path: Path, *changes: tuple[int, int]) -> Part:
    """Replace 8-byte numbers in a part file, wherever they are, and open it."""
    blob = path.read_bytes()
    for old, new in changes:
        assert old.to_bytes(8, "little") in blob
        blob = blob.replace(old.to_bytes(8, "little"), new.to_bytes(8, "little", signed=True))
    path.write_bytes(blob)
    return Part(path)


def read_all(part: Part) -> None:
    """Read every value."""
    for name in part.columns:
        part.take(name, np.arange(part.rows))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("rows", [1_234_568, 1_000_000_000_007, -1])
def test_a_changed_number_of_rows_is_refused(tmp_path: Path, name: str, rows: int) -> None:
    """Rows beyond the column were read from the next one, or ended the process (SIGSEGV)."""
    path = tmp_path / "a.arrow"
    value = examples(1)[0][name]
    write_part(path, {name: COLUMNS[name]}, ({name: value} for _ in range(1237)), rows_per_batch=1237)

    def read() -> None:
        with pytest.raises(Refusal, match=r"a\.arrow: damaged, or not a part file"):
            read_all(patch(path, (1237, rows)))

    run_limited(read, seconds=10)


def test_one_row_too_many_is_refused_and_one_too_few_is_not_seen(tmp_path: Path) -> None:
    """Arrow pads columns to 8 bytes, so use numbers that fill theirs; the manifest knows how many rows there were."""
    path = tmp_path / "a.arrow"
    write_part(path, {"x": Column("int64")}, ({"x": i} for i in range(1240)), rows_per_batch=1240)
    assert patch(path, (1240, 1239)).rows == 1239
    with pytest.raises(Refusal, match="damaged"):
        patch(path, (1239, 1241))


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_parts_are_refused(tmp_path: Path, compression: str) -> None:
    """Their values are not in the file, and `take` computes addresses within it."""
    schema = pa.schema([Column("int64").to_field("x")])
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(tmp_path / "a.arrow", schema, options=options) as writer:
        writer.write_batch(pa.record_batch([pa.array(np.zeros(1000, np.int64))], schema=schema))
    with pytest.raises(Refusal, match=r"damaged, or not a part file .compressed"):
        Part(tmp_path / "a.arrow")


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (pa.int32(), "[3]", r"column 'x' is int32\[3\], but stored as int32"),
        (pa.list_(pa.int32(), 4), "[3]", "but stored as fixed_size_list"),
        (pa.int32(), '"a"', "damaged"),
        (pa.int32(), "7", "damaged"),
        (pa.int32(), "[" * 5000, "damaged"),
        (pa.dictionary(pa.int8(), pa.utf8()), "[]", "damaged"),
        (pa.struct([]), "[]", "damaged"),
    ],
)
def test_a_shape_that_its_numbers_do_not_have_is_refused(
    tmp_path: Path, kind: pa.DataType, shape: str, message: str
) -> None:
    field = pa.field("x", kind, nullable=False, metadata={"shape": shape})
    with pa.ipc.new_file(tmp_path / "a.arrow", pa.schema([field])):
        pass
    with pytest.raises(Refusal, match=message):
        Part(tmp_path / "a.arrow")


def test_missing_values_are_refused(tmp_path: Path) -> None:
    schema = pa.schema([Column("int64").to_field("x").with_nullable(True)])
    with pa.ipc.new_file(tmp_path / "a.arrow", schema) as writer:
        writer.write_batch(pa.record_batch([pa.array([1, None])], schema=schema))
    with pytest.raises(Refusal, match="1 missing values"):
        Part(tmp_path / "a.arrow")


def test_invalid_values_are_refused_where_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write_part(path, {"text": Column("utf8")}, [{"text": "good"}, {"text": "bad."}])
    path.write_bytes(path.read_bytes().replace(b"bad.", b"\xffad."))
    part = Part(path)
    assert part.take("text", np.array([0])) == ["good"]
    with pytest.raises(Refusal, match=r"a\.arrow: damaged, or not a part file .*utf-8"):
        part.take("text", np.array([1]))
    with pytest.raises(Refusal, match=r"a\.arrow: damaged, or not a part file"):
        part.validate()


def test_opening_reads_no_values(tmp_path: Path) -> None:
    """Measure: 100 MB in 100 record batches; checks may cost 50 ms."""
    write_part(tmp_path / "a.arrow", {"x": Column("uint8", (1024,))}, ({"x": np.zeros(1024, np.uint8)},) * 100_000)
    started = time.process_time()
    Part(tmp_path / "a.arrow")
    assert time.process_time() - started < 0.05
