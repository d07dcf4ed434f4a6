"""Read JSON lines, or one JSON list, as flat records of texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import Refusal, first_line, printable
from .encoding import text_bytes

MAX_JSON = 512 << 20  # bytes of one JSON list, which is read whole


def parse_records(file: Path, text: IO[str]) -> Iterator[tuple[int, dict[str, str | None], str]]:
    """Yield (line, {column: value}, fault or "") of each object; the fields of a field `a` are columns `a.b`."""
    first = text.read(1 << 10).lstrip("\ufeff \t\r\n")[:1]
    text.seek(0)
    entries: Iterable[Any] = (line for line in text)
    if first == "[":
        if text_bytes(file) > MAX_JSON:
            raise Refusal(f"{printable(file)}: one list of more than {MAX_JSON >> 20} MB; save it as JSON lines")
        try:
            entries = json.loads(text.read())
        except (ValueError, RecursionError) as error:
            raise Refusal(f"{printable(file)}: not valid JSON ({first_line(error)}); correct it") from None
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, str) and not entry.strip():
            continue
        try:
            record = json.loads(entry) if isinstance(entry, str) else entry
            if not isinstance(record, dict):
                raise ValueError("not an object")
            yield number, dict(_flatten_record(record, "")), ""
        except (ValueError, RecursionError) as error:
            yield number, {}, f"{printable(file)} line {number}: not a JSON object ({first_line(error)})"


def _flatten_record(record: dict[str, Any], prefix: str) -> Iterator[tuple[str, str | None]]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _flatten_record(value, f"{prefix}{name}.")
        else:
            text = None if value is None else write_value(value)
            # a lone half of a surrogate pair cannot be stored
            yield f"{prefix}{name}", text and text.encode("utf-8", "replace").decode()


def write_value(value: Any) -> str:
    """Return the value of a cell as a text: a text as it is, numbers, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | dict | bool | int | float):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
