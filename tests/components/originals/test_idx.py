"""The idx format, against bytes written by hand."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from components.errors import Refusal
from components.originals import idx


def encode(values: np.ndarray) -> bytes:
    codes = {np.dtype(kind).newbyteorder("="): code for code, kind in idx.TYPES.items()}
    header = bytes([0, 0, codes[values.dtype], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(7,), (7, 2, 3)])
def test_every_type_and_shape_comes_back(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = (np.random.default_rng(0).random(shape) * 250 - 100 * (dtype != "uint8")).astype(dtype)
    path = write(tmp_path / "a.gz", encode(values))
    assert np.array_equal(idx.read_array(path), values)
    assert idx.read_array(path).dtype == dtype
    pieces = list(idx.read_blocks(path, rows=3))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert np.array_equal(np.concatenate(pieces), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (b"\0\0\x08", "not an idx file"),
        (b"\1\0\x08\1\0\0\0\1a", "not an idx file"),
        (b"\0\0\x07\1\0\0\0\1a", "not an idx file"),
        (b"\0\0\x08\0", "not an idx file"),
        (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"a", "not an idx file"),
        (b"\0\0\x08\2\0\0\0\1", "damaged"),
        (b"\0\0\x08\1\0\0\0\3ab", "damaged.*1 bytes short"),
        (b"\0\0\x08\1\xff\xff\xff\xffab", "damaged"),
        (b"\0\0\x08\3\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\xffab", "announces rows of"),
        (b"\0\0\x08\1\0\0\0\0", "announces an empty array"),
        (b"\0\0\x08\1\0\0\0\2abc", "has more than the 2 rows"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(Refusal, match=f"a.gz: .*{message}"):
        idx.read_array(write(tmp_path / "a.gz", content))


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    intact = gzip.compress(encode(np.arange(2000, dtype=np.int32)))
    for blob in (b"plain text", intact[:-9], intact[: len(intact) // 2], intact[:200] + b"\xff\xff" + intact[202:]):
        (tmp_path / "a.gz").write_bytes(blob)
        with pytest.raises(Refusal, match="damaged"):
            idx.read_array(tmp_path / "a.gz")


def test_blocks_are_limited_in_bytes_and_an_array_too(tmp_path: Path) -> None:
    rows, side = 65, 1 << 20
    content = b"\0\0\x08\2" + struct.pack(">2I", rows, side) + bytes(rows * side)
    path = write(tmp_path / "a.gz", content)
    assert {block.nbytes for block in idx.read_blocks(path)} == {idx.LARGEST_BLOCK, side}
    with pytest.raises(Refusal, match="has more than 67,108,864 bytes"):
        idx.read_array(path)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.gz")
    with pytest.raises(Refusal, match="is not a regular file"):
        idx.read_array(tmp_path / "a.gz")
