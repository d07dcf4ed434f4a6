"""Tokenizers as files beside the data or the model that they belong to, each with its SHA-256 in a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import Refusal
from .part import write_atomically


def tokenizer_file(folder: str | Path, column: str) -> Path:
    """Return the file with the tokenizer of a column."""
    return Path(folder) / f"tokenizer-{column}.json"


def count_tokens(content: str) -> int:
    """Return the size of the vocabulary in the content of a tokenizer.json."""
    record = json.loads(content)
    added = [token["id"] for token in record.get("added_tokens", [])]
    return max([*record["model"]["vocab"].values(), *added]) + 1


def write_tokenizers(folder: Path, tokenizers: Mapping[str, str]) -> dict[str, str]:
    """Write {column: content of its tokenizer.json} into the folder; return {column: SHA-256}."""
    digests = {}
    for column, content in tokenizers.items():
        with write_atomically(tokenizer_file(folder, column)) as file:
            file.write(content.encode())
        digests[column] = hashlib.sha256(content.encode()).hexdigest()
    return digests


def read_tokenizers(folder: Path, digests: Mapping[str, str], remedy: str) -> dict[str, str]:
    """Return {column: content} for {column: SHA-256}; refuses a file that is missing or has another digest."""
    tokenizers = {}
    for column, digest in digests.items():
        file = tokenizer_file(folder, column)
        content = file.read_bytes() if file.is_file() else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise Refusal(f"{file}: damaged or missing, its SHA-256 is not the recorded one; {remedy}")
        tokenizers[column] = content.decode()
    return tokenizers
