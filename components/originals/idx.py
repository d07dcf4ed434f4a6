"""The idx format of MNIST and its relatives: gzip, a big-endian header (type, sides), then the numbers.

Format: yann.lecun.com/exdb/mnist, "The IDX file format".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import Refusal
from ..files import open_regular

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_SIDES = 8
LARGEST_ROW = 1 << 20  # bytes: a damaged header can announce any size
LARGEST_BLOCK = 16 << 20  # bytes
LARGEST_ARRAY = 64 << 20  # bytes of a file that is read at once


def read_blocks(path: str | Path, rows: int = 1024) -> Iterator[np.ndarray]:
    """Yield the array of the file in blocks [at most `rows`, ...], in native byte order.

    One block is in memory, with at most LARGEST_BLOCK bytes.
    """
    try:
        with open_regular(path) as packed, gzip.GzipFile(fileobj=packed) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MAX_SIDES:
                raise Refusal(f"{path}: not an idx file; replace it by the original")
            shape = struct.unpack(f">{magic[3]}I", _read_exactly(file, 4 * magic[3]))
            dtype = np.dtype(TYPES[magic[2]])
            row_bytes = math.prod(shape[1:]) * dtype.itemsize
            if row_bytes > LARGEST_ROW:
                raise Refusal(f"{path}: announces rows of {row_bytes:,} bytes; replace it by the original")
            if 0 in shape:
                raise Refusal(f"{path}: announces an empty array; replace it by the original")
            rows = min(rows, LARGEST_BLOCK // row_bytes)
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                numbers = np.frombuffer(_read_exactly(file, count * row_bytes), dtype).astype(dtype.newbyteorder("="))
                yield numbers.reshape(count, *shape[1:])
            if file.read(1):
                raise Refusal(f"{path}: has more than the {shape[0]} rows it announces; replace it by the original")
    except (EOFError, OSError, zlib.error) as error:
        raise Refusal(f"{path}: damaged ({error}); replace it by the original") from None


def read_array(path: str | Path) -> np.ndarray:
    """Return the array of a small file, such as one of labels, at once; refuses more than LARGEST_ARRAY bytes."""
    blocks: list[np.ndarray] = []
    for block in read_blocks(path, 1 << 16):
        blocks.append(block)
        if sum(array.nbytes for array in blocks) > LARGEST_ARRAY:
            raise Refusal(f"{path}: has more than {LARGEST_ARRAY:,} bytes; replace it by the original")
    return np.concatenate(blocks)


def _read_exactly(file: gzip.GzipFile, size: int) -> bytes:
    """Return the next `size` bytes; raises EOFError if there are fewer."""
    data = file.read(size)
    if len(data) < size:
        raise EOFError(f"{size - len(data)} bytes short")
    return data
