"""Recognise examples by 64-bit digests of their content: what two splits share, and what a model was trained on.

The content of an example is its picture, or without a picture all columns but the label. A list of digests is stored
as a .npy file of eight bytes per example. Among ten million examples, two different ones have the same digest with a
probability of 3e-6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Refusal, first_line
from ..files import atomic_path

CONTENTS_FILE = "contents.npy"  # in the folder of an exported model: digests of its training examples, ascending
Digests = np.ndarray  # uint64 [N]


def content_columns(columns: Iterable[str]) -> list[str]:
    """Return the names of the columns that make up an example's content, sorted."""
    names = set(columns)
    return ["image"] if "image" in names else sorted(names - {"label"})


def digest_content(example: Mapping[str, Any], names: Iterable[str]) -> int:
    """Return the 64-bit digest of the columns `names` of an example, whose values are arrays or strings."""
    digest = hashlib.blake2b(digest_size=8)
    for name in names:
        value = example[name]
        if isinstance(value, str):
            value = np.frombuffer(value.encode(), np.uint8)
        digest.update(f"{name}{value.dtype}{value.shape}".encode())
        digest.update(value.data if value.size else b"")
    return int.from_bytes(digest.digest(), "little")


def write_digests(file: Path, digests: Digests) -> None:
    """Write the file atomically."""
    with atomic_path(file) as draft, draft.open("wb") as out:
        np.save(out, digests.astype("<u8"), allow_pickle=False)


def read_digests(file: Path) -> Digests | None:
    """Return the digests in the file, or None if there is no such file; refuses a damaged one."""
    if not file.is_file():
        return None
    try:
        digests = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise Refusal(f"{file}: damaged ({first_line(error)}); run the stage that writes it again") from None
    if digests.dtype != np.uint64 or digests.ndim != 1:
        raise Refusal(f"{file}: holds {digests.dtype}{list(digests.shape)}, not digests; run its stage again")
    return digests
