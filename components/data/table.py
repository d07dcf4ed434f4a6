"""Read tables that people keep: CSV, TSV, Parquet and JSON lines, as columns of texts, whatever their quirks.

Rows that do not fit are faults with their line, not errors. The encoding of a text file is detected and named in the
notes, unless it is UTF-8.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute, csv, parquet

from ..errors import Refusal, first_line, printable, suggest_name
from ..files import open_regular
from .encoding import read_text

DELIMITERS = {".tsv": "\t", ".tab": "\t"}  # of files whose suffix says it
CANDIDATES = (",", ";", "\t", "|")
LINES = {".jsonl", ".ndjson", ".json"}
PARQUET = {".parquet", ".pq"}
SUFFIXES = {".csv", ".txt", *DELIMITERS, *LINES, *PARQUET}
SAMPLE_LINES = 50


@dataclass
class Table:
    """The columns of a file as texts, and what is odd about it.

    columns: {name: values, None where a row has none}; faults: one line per row that does not fit.
    """

    file: Path
    columns: dict[str, list[str | None]]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Return the number of rows without faults."""
        return len(next(iter(self.columns.values()), []))

    def column(self, name: str, argument: str) -> list[str | None]:
        """Return the values of a column; `argument` of the data set names it in the refusal of an unknown one."""
        if name not in self.columns:
            listed = ", ".join(f"'{column}'" for column in self.columns)
            raise Refusal(
                f"{argument}: {printable(self.file)} has no column '{name}'{suggest_name(name, self.columns)};"
                f" it has {listed}"
            )
        return self.columns[name]


@dataclass(frozen=True)
class TableFormat:
    """How a table is written; None: found out from the file.

    header: whether the first line names the columns; otherwise they are called "1", "2", ...
    quoting: whether double quotes enclose values.
    """

    delimiter: str | None = None
    header: bool | None = None
    quoting: bool | None = None
    encoding: str | None = None


def read_table(file: Path, form: TableFormat | None = None, columns: Sequence[str] | None = None) -> Table:
    """Return a table; columns: the ones to read where the format allows a choice (None: all)."""
    form = form or TableFormat()
    if not file.is_file():
        raise Refusal(f"{printable(file)}: no such file; name a table ({', '.join(sorted(SUFFIXES))})")
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise Refusal(f"{printable(file)}: is not a table by its suffix; save it as {', '.join(sorted(SUFFIXES))}")
    if suffix in PARQUET:
        return _read_parquet(file, columns)
    text, encoding = read_text(file, form.encoding)
    table = _read_lines(file, text) if suffix in LINES else _read_delimited(file, text, form)
    if encoding not in ("utf-8", "utf-8-sig"):
        source = "as the recipe says" if form.encoding else "detected from its letters"
        table.notes.insert(0, f"{printable(file)} read as {encoding}, {source}")
    return table


def _read_parquet(file: Path, columns: Sequence[str] | None) -> Table:
    try:
        with open_regular(file) as content:
            reader = parquet.ParquetFile(content)
            names = reader.schema_arrow.names
            table = reader.read(columns=[name for name in names if columns is None or name in columns] or None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refusal(f"{printable(file)}: damaged, or not a Parquet file ({first_line(error)}); replace it") from None
    return Table(file, {name: _to_texts(table.column(name)) for name in table.column_names})


def _to_texts(values: pa.ChunkedArray) -> list[str | None]:
    """Return the values of a column as texts; those of no plain type as JSON."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values.to_pylist()
    if pa.types.is_primitive(kind) and not pa.types.is_temporal(kind):
        return compute.cast(values, pa.string()).to_pylist()
    return [None if value is None else _as_text(value) for value in values.to_pylist()]


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | dict | bool | int | float):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _read_lines(file: Path, text: str) -> Table:
    """Return the table of JSON lines, each an object; or of one JSON list of objects."""
    faults: list[str] = []
    records: list[dict[str, Any]] = []
    if text.lstrip().startswith("["):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refusal(f"{printable(file)}: not valid JSON ({first_line(error)}); correct it") from None
        entries = list(enumerate(content, 1))
    else:
        entries = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, entry in entries:
        try:
            record = json.loads(entry) if isinstance(entry, str) else entry
            if not isinstance(record, dict):
                raise ValueError("not an object")
            records.append(record)
        except (ValueError, RecursionError) as error:
            faults.append(f"{printable(file)} line {number}: not a JSON object ({first_line(error)})")
    if not records:
        raise Refusal(f"{printable(file)}: holds no JSON object per line; correct it, or name another file")
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {
        name: [None if record.get(name) is None else _as_text(record[name]) for record in records] for name in names
    }
    return Table(file, columns, faults)


def _read_delimited(file: Path, text: str, form: TableFormat) -> Table:
    """Return the table of a CSV or TSV file."""
    if not text.strip():
        raise Refusal(f"{printable(file)}: has no rows; name another file")
    lines = text[: 1 << 20].splitlines()[:SAMPLE_LINES]
    delimiter = form.delimiter or DELIMITERS.get(file.suffix.lower()) or guess_delimiter(lines)
    quoting = form.quoting if form.quoting is not None else delimiter != "\t" or _is_quoted(text, delimiter)
    rows: list[tuple[int | None, str]] = []

    def note_row(row: csv.InvalidRow) -> str:
        rows.append((row.number, f"has {row.actual_columns} values, not {row.expected_columns}"))
        return "skip"

    parse = csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoting else False,
        newlines_in_values=quoting,
        invalid_row_handler=note_row,
    )
    data = text.encode("utf-8")
    block = max(1 << 20, 2 * max(map(len, text.split("\n"))) * 4)

    def parse_rows(names: list[str] | None) -> pa.Table:
        read = csv.ReadOptions(use_threads=False, block_size=min(block, 1 << 30), autogenerate_column_names=True)
        types = {name: pa.string() for name in names or []}
        convert = csv.ConvertOptions(column_types=types, strings_can_be_null=False)
        return csv.read_csv(io.BytesIO(data), read_options=read, parse_options=parse, convert_options=convert)

    try:
        with csv.open_csv(
            io.BytesIO(data),
            read_options=csv.ReadOptions(autogenerate_column_names=True, block_size=min(block, 1 << 30)),
            parse_options=parse,
        ) as reader:
            generated = reader.schema.names
        rows.clear()
        table = parse_rows(generated)
    except (pa.ArrowException, ValueError) as error:
        raise Refusal(f"{printable(file)}: not a readable table ({first_line(error)}); correct it") from None
    columns = [column.to_pylist() for column in table.columns]
    header = form.header if form.header is not None else has_header(columns)
    names = [str(number + 1) for number in range(len(columns))]
    if header and columns:
        names = [str(values[0]).strip() for values in columns]
        columns = [values[1:] for values in columns]
    faults = [f"{printable(file)} row {number}: {reason}" for number, reason in rows]
    return _name_columns(file, names, columns, faults)


def _name_columns(file: Path, names: list[str], columns: list[list[str | None]], faults: list[str]) -> Table:
    """Return the table of the columns that have names; count what is in the others."""
    repeated = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if repeated:
        raise Refusal(f"{printable(file)}: has several columns '{repeated[0]}'; rename all but the first")
    unnamed = [values for name, values in zip(names, columns, strict=True) if not name]
    filled = sum(any(values) for values in zip(*unnamed, strict=True)) if unnamed else 0
    named = {name: values for name, values in zip(names, columns, strict=True) if name}
    table = Table(file, named, faults)
    if filled:
        table.notes.append(f"{filled:,} rows have values in columns without a name, which are not read")
    return table


def guess_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that splits most lines into the same number of values, more than one."""
    best, score = ",", 0.0
    for candidate in CANDIDATES:
        counts = Counter(len(re.sub(r'"[^"]*"', "", line).split(candidate)) for line in lines)
        number, frequency = max(counts.items(), key=lambda item: (item[1], item[0]))
        agreement = frequency / len(lines) if number > 1 else 0.0
        if agreement > score:
            best, score = candidate, agreement
    return best


def _is_quoted(text: str, delimiter: str) -> bool:
    """Return whether quotes enclose values: each value that begins with one ends with one, too."""
    starts = re.findall(f'(?:^|{re.escape(delimiter)})("[^{re.escape(delimiter)}\n\r]*)', text, re.MULTILINE)
    return bool(starts) and all(len(value) > 1 and value.endswith('"') for value in starts)


def has_header(columns: Sequence[Sequence[str | None]]) -> bool:
    """Return whether the first value of each column looks like a name, and not like the values below it."""
    first = [str(values[0] or "") for values in columns]
    if not any(first) or any(is_number(name) for name in first):
        return False
    if any(len(name) > 60 for name in first):
        return False
    repeats = [name in values[1:] for name, values in zip(first, columns, strict=True) if name]
    return not any(repeats)


def is_number(text: str | None) -> bool:
    """Return whether a text is a number."""
    try:
        float(text or "")
    except ValueError:
        return False
    return True
