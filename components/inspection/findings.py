"""The result of an inspection, and the listing of files that it starts from."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folder import SERVICE_FILES, is_service_folder
from ..data.table import table_suffix
from ..errors import Refusal, pluralize, printable

MAX_FILES = 2_000_000
ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".7z", ".rar"}
ROW = re.compile(r"(?P<place>.*)(?P<kind>row|pair) (?P<number>\d+): (?P<fault>.*)")
Progress = Callable[[str, int, int], None]  # what is done, files done, files in all


@dataclass(frozen=True)
class Sample:
    """An example for the sheet: a picture uint8 [H, W, 3] with a caption, or a line of text."""

    caption: str
    picture: np.ndarray | None = None


@dataclass
class Findings:
    """The result of an inspection.

    layout: its name, with the data set that reads it. facts: sentences of counts, sizes and modes. odd: one line per
    bad, passed-over or odd file or group of files. counts: {split: {class: examples}}. recipe: sections data, task and
    fit, or None where nothing reads the layout; reasons: why an argument of the recipe has its value.
    """

    layout: str
    facts: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    recipe: dict[str, Any] | None = None
    reasons: list[str] = field(default_factory=list)


@dataclass
class Tree:
    """All files below a path that are not hidden, sorted, and what is odd about their names."""

    root: Path
    files: list[Path]
    odd: list[str]

    def by_suffix(self, *suffixes: str) -> list[Path]:
        """Return the files with one of these suffixes, in lower case; a packed table has that of the text inside."""
        return [file for file in self.files if table_suffix(file) in suffixes]

    def name(self, file: Path) -> str:
        """Return the path of a file below the root, printable."""
        return printable(file.relative_to(self.root)) if file != self.root else printable(file.name)


def list_tree(root: Path) -> Tree:
    """Return the files below `root`, or `root` itself if it is a file; refuses a path that is not there."""
    if not root.exists():
        raise Refusal(f"{printable(root)}: no such file or folder; name one")
    if root.is_file():
        return Tree(root, [root], [])
    files: list[Path] = []
    hidden: Counter[str] = Counter()
    odd: list[str] = []
    for path, passed in _walk(root, None, odd, root):
        if passed:
            hidden[passed] += 1
        elif path.name.lower() not in SERVICE_FILES and not path.name.startswith("."):
            files.append(path)
        if len(files) > MAX_FILES:
            raise Refusal(f"{printable(root)}: has more than {MAX_FILES:,} files; inspect a folder inside it")
    for name, count in sorted(hidden.items()):
        odd.append(f"{pluralize(count, 'file')} in folders called {name}: passed over")
    files.sort(key=lambda file: file.as_posix())
    return Tree(root, files, odd + _name_faults(files, root))


def _walk(folder: Path, passed: str | None, odd: list[str], root: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield (file, name of the hidden or service folder that holds it, if any)."""
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.is_symlink():
            place = printable(path.relative_to(root))
            if not path.exists():
                odd.append(f"{place}: a link to nothing")
                continue
            if entry.is_dir():
                odd.append(f"{place}: a link to a folder, behind which changes are not noticed; it is refused")
                continue
        if entry.is_dir():
            yield from _walk(path, passed or (entry.name if is_service_folder(entry.name) else None), odd, root)
        else:
            yield path, passed


def _name_faults(files: list[Path], root: Path) -> list[str]:
    """Return lines about names that are not UTF-8, and about those that differ in case or Unicode form alone."""
    odd = []
    forms: dict[str, str] = {}
    names = {parent for file in files for parent in file.relative_to(root).parents} | {
        file.relative_to(root) for file in files
    }
    for path in sorted(names, key=str):
        text = path.as_posix()
        try:
            text.encode()
        except UnicodeEncodeError:
            odd.append(f"{printable(path)}: its name is not UTF-8, which DVC cannot record; rename it")
            continue
        form = normal_form(text)
        if forms.setdefault(form, text) != text:
            odd.append(f"{text}: differs from {forms[form]} in case or Unicode form alone; rename one of them")
    return odd


def normal_form(text: str) -> str:
    """Return a text as it is compared without regard to case and Unicode form."""
    return unicodedata.normalize("NFC", text).casefold()


def list_some(lines: list[str], most: int) -> list[str]:
    """Return the first `most` lines, and how many more there are."""
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most:,} more like these"]


def condense_rows(lines: list[str]) -> list[str]:
    """Return the lines with one for all rows or pairs that have the same fault, where the first of them was."""
    condensed: dict[object, str] = {}
    rows: dict[tuple[str, str, str], list[int]] = {}
    for place, line in enumerate(lines):
        match = ROW.fullmatch(line)
        if match is None:
            condensed[place] = line
            continue
        key = (match["place"], match["kind"], match["fault"])
        rows.setdefault(key, []).append(int(match["number"]))
        condensed.setdefault(key, line)
    for key, numbers in rows.items():
        if len(numbers) > 1:
            condensed[key] = f"{key[0]}{key[1]}s {_list_ranges(numbers)} ({len(numbers):,}): {key[2]}"
    return list(condensed.values())


def _list_ranges(numbers: list[int]) -> str:
    """Return rising numbers such as 3, 7-9."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)
