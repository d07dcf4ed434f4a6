"""Your own sentence pairs: two aligned text files, or two columns of a table; a source for `data.parallel.Parallel`.

corpus.en, corpus.fr                         one sentence per line, line by line the same
train.en.gz, train.fr.gz, val.en.gz, ...     splits are files (`validation_files`, `test_files`)
pairs.csv: english,french                    file: pairs.csv, source: english, target: french
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Literal

from ..errors import Refusal, first_line, printable
from ..files import open_regular
from ..recipes.ranges import Fraction, Natural
from ..storage.draw import draw_split
from .encoding import detect_encoding
from .table import TableFormat
from .table_rows import Shares, TableFiles
from .tatoeba import clean_sentence

Pairs = list[tuple[str, str]]
MAX_TEXT = 2 << 30  # bytes of a file, unpacked


class ParallelText:
    """Pairs of the files [source, target], or of the columns `source` and `target` of the table `file`.

    validation_files, test_files: such files for these splits. Without them, shares of the source sentences are drawn by
    `seed`; all translations of a sentence are in one split.
    clean: put sentences into lower case, with a space before each of , . ! ? (notes: machine translation data)
    limit: number of pairs to read from the start (None: all)
    bad: what happens to pairs of which one side is empty; skip leaves them out
    """

    licence = "the owner's"

    def __init__(
        self,
        files: list[str] | None = None,
        file: str | None = None,
        source: str | None = None,
        target: str | None = None,
        validation_files: list[str] | None = None,
        test_files: list[str] | None = None,
        clean: bool = True,
        limit: Natural | None = None,
        validation: Fraction = 0.05,
        test: Fraction = 0.05,
        seed: Natural = 0,
        encoding: str | None = None,
        bad: Literal["refuse", "skip"] = "refuse",
    ) -> None:
        if (files is None) == (file is None):
            raise Refusal("files: name either two aligned files or a table as file")
        if file is not None and (source is None or target is None):
            raise Refusal("source: name the two columns of the table as source and target")
        self.groups = {"train": files, "validation": validation_files, "test": test_files}
        for name, pair in self.groups.items():
            if pair is not None and len(pair) != 2:
                raise Refusal(f"files: {name} needs two files, one per language, not {len(pair)}")
        self.own = [Path(path) for pair in self.groups.values() for path in pair or []]
        self.table = None if file is None else TableFiles(Path(file), form=TableFormat(encoding=encoding))
        if self.table is not None:
            self.table.check()
            self.own.append(self.table.file)
        for path in self.own:
            if not path.is_file():
                raise Refusal(f"files: {printable(path)} is not a file; name one")
        self.has_validation = validation_files is not None
        self.name = self.own[0].name.partition(".")[0]
        self.source = ", ".join(map(str, self.own))
        self.source_column = source
        self.target_column = target
        self.clean = clean
        self.limit = limit
        self.shares = Shares(test, validation, seed)
        self.encoding = encoding
        self.bad = bad
        self.notes: list[str] = []

    def pairs(self) -> dict[str, Pairs]:
        """Return {split: (source, target) pairs in the files' order}, without empty splits."""
        self.notes.clear()
        splits: dict[str, Pairs] = {"train": [], "validation": [], "test": []}
        for name, pair in self.groups.items():
            if pair is not None:
                splits[name] = self._clean_pairs(self._read_files(pair), pair[0])
        if self.table is not None:
            sources = self.table.column(self.source_column or "", "source")
            targets = self.table.column(self.target_column or "", "target")
            self.notes += self.table.notes
            pairs = [(source or "", target or "") for source, target in zip(sources, targets, strict=True)]
            splits["train"] = self._clean_pairs(pairs, str(self.table.file))
        test = 0.0 if splits["test"] else self.shares.test
        validation = 0.0 if splits["validation"] else self.shares.validation
        everything, splits["train"] = splits["train"], []
        for source, target in everything:
            splits[draw_split(source.encode(), test, validation, self.shares.seed)].append((source, target))
        return {name: pairs for name, pairs in splits.items() if pairs}

    def _read_files(self, pair: list[str]) -> Pairs:
        """Return the lines of two aligned files; refuses different numbers of lines."""
        sources, targets = (self._read_lines(Path(path)) for path in pair)
        if len(sources) != len(targets):
            raise Refusal(
                f"files: {pair[0]} has {len(sources):,} lines and {pair[1]} {len(targets):,};"
                " aligned files have equally many"
            )
        return list(zip(sources, targets, strict=True))

    def _read_lines(self, path: Path) -> list[str]:
        """Return the lines of a text file, which may be packed by gzip. Only the ends of lines separate them."""
        try:
            with open_regular(path) as content:
                packed = content.read(2) == b"\x1f\x8b"
                content.seek(0)
                data = gzip.GzipFile(fileobj=content).read(MAX_TEXT + 1) if packed else content.read(MAX_TEXT + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Refusal(f"{printable(path)}: damaged ({first_line(error)}); replace it") from None
        if len(data) > MAX_TEXT:
            raise Refusal(f"{printable(path)}: has more than {MAX_TEXT >> 30} GB; split it")
        name = self.encoding or detect_encoding(data, path)
        if name not in ("utf-8", "utf-8-sig"):
            self.notes.append(f"{printable(path)} read as {name}")
        try:
            text = data.decode(name)
        except (UnicodeDecodeError, LookupError) as error:
            raise Refusal(f"{printable(path)}: is not {name} ({first_line(error)}); set another encoding") from None
        lines = text.replace("\r\n", "\n").split("\n")
        return lines[:-1] if lines and not lines[-1] else lines

    def _clean_pairs(self, pairs: Pairs, place: str) -> Pairs:
        """Return the pairs, cleaned; refuses or leaves out those of which a side is empty."""
        cleaned = [(self._clean(source), self._clean(target)) for source, target in pairs[: self.limit]]
        empty = [number for number, (source, target) in enumerate(cleaned, 1) if not (source and target)]
        if empty and self.bad == "refuse":
            listed = ", ".join(map(str, empty[:12])) + (", ..." if len(empty) > 12 else "")
            raise Refusal(f"{place}: {len(empty):,} pairs lack a side: {listed}; correct them, or set bad: skip")
        if empty:
            self.notes.append(f"{len(empty):,} pairs of {place} lack a side and are left out")
        return [pair for pair in cleaned if all(pair)]

    def _clean(self, sentence: str) -> str:
        return clean_sentence(sentence) if self.clean else " ".join(sentence.split())
