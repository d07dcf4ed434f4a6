"""Your own sentence pairs: two aligned text files, or two columns of a table; a source for `data.parallel.Parallel`.

corpus.en, corpus.fr                         one sentence per line, line by line the same
train.en.gz, train.fr.gz, val.en.gz, ...     splits are files (`validation_files`, `test_files`)
pairs.csv: english,french                    file: pairs.csv, source: english, target: french
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice, zip_longest
from pathlib import Path
from typing import Literal, overload

from ..errors import Refusal, pluralize, printable
from ..recipes.ranges import Fraction, Natural
from ..storage.draw import draw_split
from .encoding import open_text, text_bytes
from .table import TableFormat
from .table_rows import Shares, TableFiles, text_key
from .tatoeba import clean_sentence
from .text_columns import ColumnWriter, TextColumn, batch_rows

Pair = tuple[str, str]
MOST_NAMED = 12  # pairs in an error line


class PairRows(Sequence[Pair]):
    """Some rows of a column of sentences and of one of their translations; a row takes eight bytes of memory."""

    def __init__(self, source: TextColumn, target: TextColumn, rows: Sequence[int]) -> None:
        self.source = source
        self.target = target
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, key: int) -> Pair: ...
    @overload
    def __getitem__(self, key: slice) -> list[Pair]: ...
    def __getitem__(self, key: int | slice) -> Pair | list[Pair]:
        if isinstance(key, slice):
            return [self._read(row) for row in self.rows[key]]
        return self._read(self.rows[key])

    def _read(self, row: int) -> Pair:
        return self.source[row] or "", self.target[row] or ""


class ParallelText:
    """Pairs of the files [source, target], or of the columns `source` and `target` of the table `file`.

    validation_files, test_files: such files for these splits, whose sources are left out of training. Without them,
    shares of the source sentences are drawn by `seed`; all translations of a sentence are in one split.
    clean: put sentences into lower case, with a space before each of , . ! ? (notes: machine translation data)
    limit: number of pairs to read from the start (None: all)
    bad: what happens to pairs of which one side is empty; skip leaves them out
    delimiter, header, quoting, encoding: how the table is written (None: found out); encoding is also for the files
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
        delimiter: str | None = None,
        header: bool | None = None,
        quoting: bool | None = None,
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
        for path in self.own:
            if not path.is_file():
                raise Refusal(f"files: {printable(path)} is not a file; name one")
        form = TableFormat(delimiter, header, quoting, encoding)
        self.table = None if file is None else TableFiles.of_splits(file, None, None, form)
        self.own += [] if self.table is None else self.table.paths
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

    def pairs(self) -> dict[str, Sequence[Pair]]:
        """Return {split: (source, target) pairs in the files' order}, without empty splits."""
        self.notes.clear()
        splits: dict[str, Sequence[Pair]] = {}
        for name in ("validation", "test"):
            pair = self.groups[name]
            if pair is not None:
                splits[name] = self._read_files(pair)
        train = self._read_table(self.table) if self.table is not None else self._read_files(self.groups["train"] or [])
        test = 0.0 if splits.get("test") else self.shares.test
        validation = 0.0 if splits.get("validation") else self.shares.validation
        drawn = {name: array("q") for name in ("train", "validation", "test")}
        held_out = {text_key(source) for pairs in splits.values() for source, _ in pairs}
        repeated = 0
        for row, (source, _) in enumerate(train):
            if held_out and text_key(source) in held_out:
                repeated += 1
                continue
            drawn[draw_split(source.encode(), test, validation, self.shares.seed)].append(row)
        for name, rows in drawn.items():
            if rows:
                splits[name] = PairRows(train.source, train.target, rows)
        if repeated:
            self.notes.append(f"{repeated:,} training pairs have a source of a held-out file and are left out")
        return {name: splits[name] for name in drawn if splits.get(name)}

    def _read_table(self, table: TableFiles) -> PairRows:
        """Return the pairs of two columns."""
        sources = table.column(self.source_column or "", "source")
        targets = table.column(self.target_column or "", "target")
        self.notes += table.notes
        pairs = ((source or "", target or "") for source, target in zip(sources, targets, strict=True))
        return self._store_pairs(pairs, str(table.paths[0]), sum(map(text_bytes, table.paths)))

    def _read_files(self, files: Sequence[str]) -> PairRows:
        """Return the lines of two aligned files; refuses different numbers of lines."""
        paths = [Path(file) for file in files]
        with ExitStack() as stack:
            texts = [stack.enter_context(open_text(path, self.encoding, "\n")) for path in paths]
            self.notes += [
                f"{printable(path)} read as {encoding}"
                for path, (_, encoding) in zip(paths, texts, strict=True)
                if encoding not in ("utf-8", "utf-8-sig")
            ]
            pairs = _align_lines(files, [text for text, _ in texts])
            return self._store_pairs(pairs, files[0], sum(map(text_bytes, paths)))

    def _store_pairs(self, pairs: Iterator[Pair], place: str, size: int) -> PairRows:
        """Return cleaned pairs of a source of `size` bytes; refuses or leaves out those of which a side is empty."""
        writer = ColumnWriter(("source", "target"), size)
        empty: list[int] = []
        count = 0
        for batch in batch_rows(
            (self._clean(source), self._clean(target)) for source, target in islice(pairs, self.limit)
        ):
            empty += [count + number for number, pair in enumerate(batch, 1) if not all(pair)]
            count += len(batch)
            complete = [pair for pair in batch if all(pair)]
            writer.write([[pair[side] for pair in complete] for side in (0, 1)])
        for _ in pairs:  # lines beyond the limit count where files are compared
            pass
        if empty and self.bad == "refuse":
            listed = ", ".join(map(str, empty[:MOST_NAMED])) + (", ..." if len(empty) > MOST_NAMED else "")
            incomplete = pluralize(len(empty), "pair lacks a side", "pairs lack a side")
            raise Refusal(f"{place}: {incomplete}: {listed}; correct them, or set bad: skip")
        if empty:
            left_out = pluralize(len(empty), "pair without a side is left out", "pairs without a side are left out")
            self.notes.append(f"{place}: {left_out}")
        columns = writer.finish()
        return PairRows(columns["source"], columns["target"], range(count - len(empty)))

    def _clean(self, sentence: str) -> str:
        return clean_sentence(sentence) if self.clean else " ".join(sentence.split())


def _align_lines(files: Sequence[str], texts: Sequence[Iterable[str]]) -> Iterator[Pair]:
    """Yield the lines of two texts, of which only line feeds are the ends; refuses different numbers of lines."""
    lines = [0, 0]
    for source, target in zip_longest(*texts):
        lines = [count + (line is not None) for count, line in zip(lines, (source, target), strict=True)]
        if source is not None and target is not None:
            yield source, target
    if lines[0] != lines[1]:
        raise Refusal(
            f"files: {files[0]} has {lines[0]:,} lines and {files[1]} {lines[1]:,}; aligned files have equally many"
        )
