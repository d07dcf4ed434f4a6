"""Read tables that people keep: CSV, TSV, Parquet and JSON lines, as columns of texts, whatever their quirks.

Rows that do not fit are faults with their line, not errors. The encoding of a text file is detected and named in the
notes, unless it is UTF-8.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import compute, csv, parquet

from ..errors import Refusal, first_line, pluralize, printable, suggest_name
from ..files import open_regular
from .dialect import guess_delimiter, has_header, is_quoted
from .encoding import Utf8Reader, open_text, text_bytes
from .json_records import parse_records, write_value
from .text_columns import ColumnWriter, TextColumn, join_columns

DELIMITERS = {".tsv": "\t", ".tab": "\t"}  # of files whose suffix says it
LINES = {".jsonl", ".ndjson", ".json"}
PARQUET = {".parquet", ".pq"}
SUFFIXES = {".csv", ".txt", *DELIMITERS, *LINES, *PARQUET}
SAMPLE_LINES = 50
MOST_LISTED = 20  # columns in a line
MOST_COLUMNS = 4096  # of a CSV file
ROWS = 4096  # per batch of Parquet files and JSON lines
HEAD = 1 << 20  # characters by which delimiter and quoting are guessed
BLOCK, MAX_BLOCK = 1 << 20, 1 << 30  # bytes of a CSV file that are parsed at a time, where rows are not longer


@dataclass
class Table:
    """The columns of a file as texts, and what is odd about it; large ones stay on disk (text_columns.py).

    columns: {name: values, None where a row has none}; faults: one line per row that does not fit. first: number of
    the first row in the file, 2 after a header; skipped: rising numbers of the rows that are not among `columns`.
    parts: the tables that it joins.
    """

    file: Path
    columns: dict[str, TextColumn]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    first: int = 1
    skipped: list[int] = field(default_factory=list)
    parts: Sequence[Table] = ()

    @property
    def rows(self) -> int:
        """Return the number of rows without faults."""
        return len(next(iter(self.columns.values()), ()))

    def locate(self, row: int) -> str:
        """Return the file and row of the row at this place, as a spreadsheet counts: a header is row 1."""
        return locate_row(self.parts, row) if self.parts else f"{printable(self.file)} row {self.number(row)}"

    def number(self, row: int) -> int:
        """Return the number in the file of the row at this place."""
        return self.first + row + bisect_right(self._unskipped, self.first + row)

    @cached_property
    def _unskipped(self) -> list[int]:
        """Return the numbers that the skipped rows would have, were those before them not counted."""
        return [number - place for place, number in enumerate(self.skipped)]

    def list_columns(self) -> str:
        """Return the names of the first columns for a line."""
        names = [f"'{column}'" for column in self.columns]
        more = f" and {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else ""
        return ", ".join(names[:MOST_LISTED]) + more

    def column(self, name: str, argument: str) -> TextColumn:
        """Return the values of a column; `argument` of the data set names it in the refusal of an unknown one."""
        if name not in self.columns:
            listed = self.list_columns()
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
    suffix = table_suffix(file)
    if suffix not in SUFFIXES:
        raise Refusal(f"{printable(file)}: not a table by its suffix; save it as {', '.join(sorted(SUFFIXES))}")
    if suffix in PARQUET:
        return _read_parquet(file, columns)
    with open_text(file, form.encoding, "\n" if suffix in LINES else "") as (text, encoding):
        table = _read_lines(file, text) if suffix in LINES else _read_delimited(file, text, encoding, form)
    if encoding not in ("utf-8", "utf-8-sig"):
        source = "as the recipe says" if form.encoding else "detected from its letters"
        table.notes.insert(0, f"{printable(file)} read as {encoding}, {source}")
    return table


def join_tables(file: Path, tables: Sequence[Table]) -> Table:
    """Return the rows of tables, one after the other, as a table of the name `file`; refuses different columns."""
    columns = {name: join_columns(table.column(name, "columns") for table in tables) for name in tables[0].columns}
    faults = [fault for table in tables for fault in table.faults]
    return Table(file, columns, faults, [note for table in tables for note in table.notes], parts=tables)


def locate_row(tables: Iterable[Table], row: int) -> str:
    """Return the file and row of the row at this place of tables that stand one after the other."""
    for table in tables:
        if row < table.rows:
            return table.locate(row)
        row -= table.rows
    raise IndexError(row)


def table_suffix(file: Path) -> str:
    """Return the suffix of a table in lower case, that of the text inside for one that is packed, such as a.csv.gz."""
    inner = Path(file.stem).suffix.lower()
    is_packed = file.suffix.lower() == ".gz" and inner in {".csv", *DELIMITERS, *LINES}
    return inner if is_packed else file.suffix.lower()


def _read_parquet(file: Path, columns: Sequence[str] | None) -> Table:
    try:
        with open_regular(file) as content:
            # What is read ahead would stay in memory until the end
            reader = parquet.ParquetFile(content, pre_buffer=False)
            names = [name for name in reader.schema_arrow.names if columns is None or name in columns] or None
            writer: ColumnWriter | None = None
            size = sum(reader.metadata.row_group(group).total_byte_size for group in range(reader.num_row_groups))
            rows = max(1, min(ROWS, BLOCK * max(1, reader.metadata.num_rows) // max(1, size)))
            for batch in reader.iter_batches(rows, columns=names):
                flat = _flatten(pa.Table.from_batches([batch]))
                if writer is None:
                    # Parquet is packed
                    writer = ColumnWriter(_unique_names(file, flat.column_names), 4 * file.stat().st_size)
                writer.write([_to_texts(flat.column(place).combine_chunks()) for place in range(flat.num_columns)])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refusal(f"{printable(file)}: damaged, or not a Parquet file ({first_line(error)}); replace it") from None
    if writer is None:
        raise Refusal(f"{printable(file)}: has no rows; name another file")
    return Table(file, writer.finish())


def _flatten(table: pa.Table) -> pa.Table:
    """Return a table in which the fields of a column `a` are columns `a.b`."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _to_texts(values: pa.Array) -> pa.Array | list[str | None]:
    """Return the values of a column as texts; those of no plain type as JSON."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_large_string(kind) or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)):
        return compute.cast(values, pa.string())
    return [None if value is None else write_value(value) for value in values.to_pylist()]


def _read_lines(file: Path, text: IO[str]) -> Table:
    """Return the table of JSON lines, each an object; or of one JSON list of objects."""
    faults: list[str] = []
    skipped: list[int] = []
    names: dict[str, None] = {}
    last, largest = 0, 0  # line; characters of a record
    for number, record, fault in parse_records(file, text):
        skipped += range(last + 1, number + bool(fault))
        last = number
        names.update(dict.fromkeys(record))
        largest = max(largest, sum(len(value or "") for value in record.values()))
        if fault:
            faults.append(fault)
    if not names:
        raise Refusal(f"{printable(file)}: holds neither a JSON object per line nor a list of them; convert it")
    writer = ColumnWriter(list(names), text_bytes(file))
    text.seek(0)
    rows = (record for _, record, fault in parse_records(file, text) if not fault)
    while batch := list(islice(rows, max(1, ROWS * BLOCK // max(BLOCK, largest * ROWS)))):
        writer.write([[record.get(name) for record in batch] for name in names])
    return Table(file, writer.finish(), faults, skipped=skipped)


def _read_delimited(file: Path, text: IO[str], encoding: str, form: TableFormat) -> Table:
    """Return the table of a CSV or TSV file of this encoding."""
    head = text.read(HEAD)
    if not head.strip():
        raise Refusal(f"{printable(file)}: has no rows; name another file")
    lines = head.splitlines()[:SAMPLE_LINES]
    delimiter = form.delimiter or DELIMITERS.get(table_suffix(file)) or guess_delimiter(lines)
    quoting = form.quoting if form.quoting is not None else delimiter != "\t" or is_quoted(head, delimiter)
    block = BLOCK
    while True:
        try:
            # Arrow's thread reads ahead, so every attempt has a file of its own
            with open_text(file, encoding) as (rows, _):
                return _parse_rows(file, rows, delimiter, quoting, form.header, block)
        except (pa.ArrowException, ValueError) as error:
            # A row must fit into a block; Arrow's message names the remedy
            if "block" in str(error) and block < min(MAX_BLOCK, 2 * text_bytes(file) + HEAD):
                block *= 8
                continue
            raise Refusal(f"{printable(file)}: not a readable table ({first_line(error)}); correct it") from None


def _parse_rows(file: Path, text: IO[str], delimiter: str, quoting: bool, header: bool | None, block: int) -> Table:
    """Return the rows of a CSV or TSV file, of which blocks of `block` bytes are in memory at a time."""
    faults: list[str] = []
    skipped: list[int] = []

    def note_row(row: csv.InvalidRow) -> str:
        skipped.append(row.number)
        faults.append(f"{printable(file)} row {row.number}: {row.actual_columns} values, not {row.expected_columns}")
        return "skip"

    parse = csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoting else False,
        newlines_in_values=quoting,
        invalid_row_handler=note_row,
    )
    read = csv.ReadOptions(use_threads=False, block_size=block, autogenerate_column_names=True)
    types = {f"f{number}": pa.string() for number in range(MOST_COLUMNS)}  # Arrow's own names
    convert = csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    writer: ColumnWriter | None = None
    names: list[str] = []
    first, filled = 1, 0
    with csv.open_csv(Utf8Reader(text), read_options=read, parse_options=parse, convert_options=convert) as reader:
        for batch in reader:
            if writer is None:
                if batch.num_columns > MOST_COLUMNS:
                    raise Refusal(f"{printable(file)}: has more than {MOST_COLUMNS:,} columns; split the table")
                columns = [values.to_pylist() for values in batch.columns]
                names = [str(number + 1) for number in range(len(columns))]
                if columns and columns[0] and (header if header is not None else has_header(columns)):
                    names = [str(values[0]).strip() for values in columns]
                    batch = batch.slice(1)
                    first = 2
                _unique_names(file, list(filter(None, names)))
                writer = ColumnWriter(list(filter(None, names)), text_bytes(file))
            unnamed = [values for name, values in zip(names, batch.columns, strict=True) if not name]
            if unnamed:
                filled += sum(any(row) for row in zip(*(values.to_pylist() for values in unnamed), strict=True))
            writer.write([values for name, values in zip(names, batch.columns, strict=True) if name])
    table = Table(file, {} if writer is None else writer.finish(), faults, [], first, skipped)
    if filled:
        filled_rows = pluralize(filled, "row has", "rows have")
        table.notes.append(f"{filled_rows} values in columns without a name, which are not read")
    return table


def _unique_names(file: Path, names: list[str]) -> list[str]:
    """Return `names`; refuses one that is given twice."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise Refusal(f"{printable(file)}: has several columns '{repeated[0]}'; rename all but the first")
    return names
