"""The rows of one table or of one table per split, and the split of each row."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..errors import Refusal, pluralize, printable, suggest_name
from ..storage.dataset import Fault
from ..storage.draw import draw_split
from .table import Table, TableFormat, locate_row, read_table
from .text_columns import TextColumn, join_columns

SPLIT_NAMES = {  # of values of a split column, in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
MOST_FAULTS = 12  # in an error line
ORDER = ("train", "validation", "test")
Entry = int | Fault  # the number of a row, or what is wrong with it


class Entries(Sequence[Entry]):
    """The rows of a split and its faults, in order; a row takes eight bytes."""

    def __init__(self) -> None:
        self.numbers = array("q")  # -1 - n stands for the fault numbered n
        self.faults: list[Fault] = []

    def append(self, entry: Entry) -> None:
        """Add a row or a fault at the end."""
        if isinstance(entry, Fault):
            self.faults.append(entry)
            self.numbers.append(-len(self.faults))
        else:
            self.numbers.append(entry)

    def sample(self, limit: int | None) -> Entries:
        """Return `limit` entries, evenly spaced because tables are often sorted (None: all)."""
        if limit is None or limit >= len(self):
            return self
        entries = Entries()
        entries.faults = self.faults
        entries.numbers = array("q", (self.numbers[place * len(self) // limit] for place in range(limit)))
        return entries

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, key: int) -> Entry: ...
    @overload
    def __getitem__(self, key: slice) -> list[Entry]: ...
    def __getitem__(self, key: int | slice) -> Entry | list[Entry]:
        if isinstance(key, slice):
            return [self._decode(number) for number in self.numbers[key]]
        return self._decode(self.numbers[key])

    def _decode(self, number: int) -> Entry:
        return number if number >= 0 else self.faults[-1 - number]


@dataclass(frozen=True)
class TableFiles:
    """The files of the splits: tables for training or for all rows, and optional ones for validation and test."""

    files: dict[str, list[Path]]  # {split: its tables}
    form: TableFormat | None = None

    @classmethod
    def of_splits(cls, file: str, validation: str | None, test: str | None, form: TableFormat) -> TableFiles:
        """Return the files of these names, or of patterns such as train-*.parquet; refuses missing ones, reads none."""
        files = {"train": find_files(file, "file")}
        for split, name in (("validation", validation), ("test", test)):
            if name is not None:
                files[split] = find_files(name, f"{split}_file")
        return cls(files, form)

    @property
    def paths(self) -> list[Path]:
        """Return the files."""
        return [path for paths in self.files.values() for path in paths]

    @cached_property
    def tables(self) -> list[tuple[str, Table]]:
        """Return (split, table) of each file, those for training first."""
        return [(split, read_table(path, self.form)) for split, paths in self.files.items() for path in paths]

    @property
    def notes(self) -> list[str]:
        """Return what is odd about the files."""
        return [note for _, table in self.tables for note in table.notes]

    def column(self, name: str, argument: str) -> TextColumn:
        """Return the values of a column in all files, one after the other."""
        return join_columns(table.column(name, argument) for _, table in self.tables)

    def locate(self, row: int) -> str:
        """Return the file and row, as a spreadsheet counts, of a row of `column`."""
        return locate_row((table for _, table in self.tables), row)

    def split(
        self,
        check_row: Callable[[int], str | None],
        draw_key: Callable[[int], bytes],
        shares: Shares,
        column: str | None,
    ) -> dict[str, Entries]:
        """Return {split: its rows in the order of the files, and faults}.

        check_row: returns why a row cannot be used, or None. draw_key: returns the bytes that decide on a row's split.
        column: the name of the column that names the split, if there is one.
        """
        names = self.column(column, "split") if column else None
        splits = {split: Entries() for split in ORDER}
        first = 0
        draws_test = shares.test if "test" not in self.files and names is None else 0.0
        draws_validation = shares.validation if "validation" not in self.files and names is None else 0.0
        for split, table in self.tables:
            for line in table.faults:
                splits[split].append(Fault(line))
            for row in range(first, first + table.rows):
                reason = check_row(row)
                target = split
                if names is not None:
                    target = SPLIT_NAMES.get((names[row] or "").strip().lower(), "")
                    if not target:
                        raise Refusal(
                            f"split: {self.locate(row)} has '{names[row]}' in column '{column}'; name train,"
                            f" validation or test there{suggest_name(names[row] or '', SPLIT_NAMES)}"
                        )
                elif reason is None and split == "train":
                    target = draw_split(draw_key(row), draws_test, draws_validation, shares.seed)
                splits[target].append(row if reason is None else Fault(f"{self.locate(row)}: {reason}"))
            first += table.rows
        check_splits(splits, {"test": draws_test, "validation": draws_validation})
        return {name: entries for name, entries in splits.items() if entries}


def find_files(name: str, argument: str) -> list[Path]:
    """Return the file of this name, or those that match it as a pattern; `argument` names it in the refusal of none."""
    path = Path(name)
    try:
        files = [path] if path.is_file() else sorted(file for file in path.parent.glob(path.name) if file.is_file())
    except ValueError:  # not a pattern, such as an empty name or x**.csv
        files = []
    if not files:
        raise Refusal(f"{argument}: {printable(path)} is not a file; name a table")
    return files


@dataclass(frozen=True)
class Shares:
    """The shares of the rows that are drawn for a split, where no file or column says which they are."""

    test: float
    validation: float
    seed: int

    def __post_init__(self) -> None:
        if self.test + self.validation >= 1:
            raise Refusal(f"validation: {self.validation} and test: {self.test} leave nothing to train on; lower them")


def check_splits(splits: dict[str, Entries], shares: dict[str, float]) -> None:
    """Refuse a split without a row that was asked for."""
    total = sum(map(len, splits.values()))
    faults = [fault.reason for entries in splits.values() for fault in entries.faults]
    for name, entries in splits.items():
        usable = len(entries) > len(entries.faults)
        if not usable and faults and (name == "train" or shares.get(name)):
            raise Refusal(f"{len(faults):,} of {total:,} rows can't be used: {'; '.join(faults[:MOST_FAULTS])}")
        if not usable and name == "train":
            raise Refusal("file: no row remains to train on; correct the table, or lower test and validation")
        if not usable and shares.get(name):
            share = f"{shares[name]:g} of {total} rows"
            raise Refusal(f"{name}: {share} gives an empty split; raise it, or take another seed")


def list_classes(values: Iterable[str | None]) -> list[str]:
    """Return the different values, numbers in their order and texts by the alphabet, without empty ones."""
    names = {value.strip() for value in values if value is not None and value.strip()}
    return sorted(names, key=_class_order)


def _class_order(name: str) -> tuple[Any, ...]:
    try:
        number = float(name)
    except ValueError:
        return (1, 0.0, name)
    # NaN is neither below nor above a number: the order would depend on that of the set
    return (1, 0.0, name) if math.isnan(number) else (0, number, name)


def describe_repeated(*columns: Sequence[str]) -> list[str]:
    """Return a sentence about rows whose texts in all of these columns repeat an earlier row, if there are any."""
    rows = zip(*columns, strict=True)
    keys = np.fromiter((text_key("\0".join(texts)) for texts in rows), np.int64, len(columns[0]))
    repeated = len(keys) - len(np.unique(keys))
    return [pluralize(repeated, "row repeats an earlier one", "rows repeat an earlier one")] if repeated else []


def text_key(text: str) -> int:
    """Return a hash of a text, from 0 to 2^63 - 1."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
