"""Recognise tables: of texts, of sentence pairs, or of numbers over time, by the kinds of their columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..data.dialect import is_number
from ..data.series_table import read_time
from ..data.table import SAMPLE_LINES, Table, join_tables, read_table
from ..data.table import SUFFIXES as TABLE_SUFFIXES
from ..data.table_rows import SPLIT_NAMES
from ..data.text_columns import ColumnWriter
from ..errors import Refusal, pluralize, printable
from ..files import open_regular
from .findings import Findings, Progress, Tree, condense_rows
from .series_layouts import describe_series
from .text_layouts import WORDS, describe_judged_pairs, describe_pairs, describe_texts, mean_length, spread

SAMPLE = 64 << 10  # bytes by which a table is recognised
EXAMINED = 200_000  # rows of a table
SHARD = re.compile(r"(.+?)-\d+-of-\d+(\..+)")  # a file of a table in several, such as train-00000-of-00002.parquet
MOST_CLASSES = 200
MOST_TABLES = 12
FILLED = 0.1  # share of the rows that have a value, from which a column holds the texts of a table
LETTERS = 0.95  # share of a column's values that hold letters, where its texts are hardly more than a word
SPLIT_READERS = ("data.text_table.TextTable", "data.sentence_table.SentenceTable")
ROLES = ("text", "pair", "label", "score")
CLASS_NAMES = ("label", "class", "category", "target", "sentiment", "intent", "v1", "y")
SCORE_NAMES = ("score", "similarity", "relatedness_score", "rating")
PAIR_NAMES = (("premise", "hypothesis"), ("question", "sentence"), ("query", "passage"), ("first", "second"))
NUMBERED = re.compile(r"(?P<stem>.*?)[ _]?(?P<side>[12]|(?<=[ _])[ab])")


@dataclass
class Roles:
    """The names of a table's columns, by what their values look like.

    times: numbers that rise, with the name of a time, or dates; words: texts that are hardly more than a word.
    """

    texts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    scores: list[str] = field(default_factory=list)  # numbers of which some are not whole
    times: list[str] = field(default_factory=list)


def recognise_tables(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about one table, or one per split; None where there is none."""
    files = tree.by_suffix(*(TABLE_SUFFIXES - {".txt"})) or [
        file for file in tree.by_suffix(".txt") if holds_tabs(file)
    ]
    groups: dict[Path, list[Path]] = {}
    for file in files:
        match = SHARD.fullmatch(file.name)
        groups.setdefault(file.with_name(f"{match[1]}-*{match[2]}") if match else file, []).append(file)
    if not files or len(groups) > MOST_TABLES:
        return None
    tables: dict[Path, Table] = {}
    faults = []
    for number, (name, group) in enumerate(groups.items(), 1):
        try:
            tables[name] = join_tables(name, [read_table(file) for file in group])
        except Refusal as refusal:
            faults.append(str(refusal))
        progress("tables", number, len(groups))
    if not tables:
        return Findings("tables that can't be read", odd=faults) if faults else None
    main = _choose_main(tables)
    findings = _describe_table(tables[main])
    others = _add_splits(findings, tables, main, tree)
    findings.odd = tree.odd + faults + others + condense_rows(findings.odd)
    return findings


def holds_tabs(file: Path) -> bool:
    """Return whether a text file is a table: all of its first lines hold equally many tabs, at least one."""
    with open_regular(file) as content:
        lines = content.read(SAMPLE).splitlines()[:-1][:SAMPLE_LINES]
    return len(lines) > 1 and len({line.count(b"\t") for line in lines}) == 1 and b"\t" in lines[0]


def _choose_main(tables: dict[Path, Table]) -> Path:
    """Return the table for training: by its name, or the longest."""
    named = [file for file in tables if re.search("train", file.stem.lower())]
    return max(named or tables, key=lambda file: tables[file].rows)


def _add_splits(findings: Findings, tables: dict[Path, Table], main: Path, tree: Tree) -> list[str]:
    """Add the tables of other splits to the recipe; return a line per table that is not used."""
    lines = []
    data = findings.recipe["data"] if findings.recipe else {}
    for file, table in tables.items():
        if file == main:
            continue
        words = re.split(r"[^a-z]+", file.stem.lower())
        split = next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")
        name = f"{split}_file"
        missing = [data[role] for role in ROLES if role in data and data[role] not in table.columns]
        if split == "train" or data.get("use") not in SPLIT_READERS:
            lines.append(f"{tree.name(file)}: another table; not used")
        elif name in data:
            lines.append(f"{tree.name(file)}: not used, because {data[name]} is the {split} split")
        elif missing:
            lines.append(
                f"{tree.name(file)}: looks like the {split} split, but has no column '{missing[0]}'; not used"
                f" (it has {table.list_columns()})"
            )
        else:
            data[name] = str(file)
            findings.odd += table.notes + table.faults
            data |= {"bad": "skip"} if table.faults else {}
            findings.reasons.append(f"{name}: {tree.name(file)} has the same columns")
    return lines


def cut_table(table: Table) -> Table:
    """Return the first EXAMINED rows of a table, with a note if there are more: inspection takes memory per row."""
    if table.rows <= EXAMINED:
        return table
    writer = ColumnWriter(list(table.columns), source_bytes=0)
    writer.write([values[:EXAMINED] for values in table.columns.values()])
    note = f"{printable(table.file)}: the first {EXAMINED:,} of {table.rows:,} rows are examined; a fit reads all"
    return replace(table, columns=writer.finish(), notes=[*table.notes, note])


def _describe_table(table: Table) -> Findings:
    """Return the findings about a table by the kinds of its columns."""
    findings = _describe_columns(cut_table(table))
    if findings.recipe and table.rows > EXAMINED:
        fit = findings.recipe["fit"]
        findings.recipe["fit"] = fit | {"epochs": max(1, round(fit["epochs"] * EXAMINED / table.rows))}
    return findings


def _describe_columns(table: Table) -> Findings:
    """Return the findings about a table that fits into memory."""
    roles = find_roles(table)
    pair = find_pair(table, roles.texts)
    if pair and (roles.classes or roles.numbers):
        return _describe_judged(table, pair, roles)
    texts = roles.texts or (roles.words if roles.classes else [])
    if texts and roles.classes:
        text = max(texts, key=lambda name: mean_length(table, name))
        findings = describe_texts(table, text, roles.classes[0])
        _list_others(findings, [*roles.classes, *texts])
        return findings
    if len(texts) >= 2:
        return describe_pairs(table, *(pair or texts[:2]))
    if roles.numbers and not texts:
        rest = [name for name in table.columns if name not in [*roles.numbers, *roles.times[:1]]]
        findings = describe_series(table, roles.numbers, roles.times[0] if roles.times else None)
        findings.odd += _describe_rest(table, rest)
        return findings
    rest = [name for name in table.columns if name not in [*texts, *roles.times]]
    described = _describe_no_labels(table, rest) if texts else _describe_rest(table, rest)
    return Findings(
        "a table without a text and a label, two texts, or numbers over time",
        facts=[f"{printable(table.file)}: {pluralize(table.rows, 'row')} with columns {table.list_columns()}"],
        odd=table.notes + table.faults + described,
    )


def find_roles(table: Table) -> Roles:
    """Return the columns of a table by what their values look like; those of classes with the likeliest first."""
    roles = Roles()
    for name, values in table.columns.items():
        sample = [value for value in values if value]
        if not sample:
            continue
        different = len(set(sample))
        holds_texts = different > 1 and len(sample) >= FILLED * len(values)
        if all(is_number(value) for value in sample):
            rises = different == len(values) and _rises(values)
            is_time = rises and name.lower() in ("time", "date", "t", "index", "timestamp")
            (roles.times if is_time else roles.numbers).append(name)
            roles.scores += [] if all(float(value).is_integer() for value in sample) else [name]
        elif all(read_time(value) is not None for value in sample[:200]):
            roles.times.append(name)
        elif holds_texts and np.mean([len(value.split()) for value in spread(sample)]) >= WORDS:
            roles.texts.append(name)
        elif 1 < different <= most_classes(len(sample)):
            roles.classes.append(name)
        elif different > MOST_CLASSES // 10 and np.mean([any(map(str.isalpha, value)) for value in sample]) > LETTERS:
            roles.words.append(name)
    roles.classes += [name for name in roles.numbers if _are_classes(table.columns[name])]
    roles.classes.sort(key=lambda name: (_last(name) not in CLASS_NAMES, len(set(table.columns[name]))))
    return roles


def most_classes(rows: int) -> int:
    """Return how many different values a column of so many texts may have to be one of classes."""
    return min(MOST_CLASSES, max(2, rows // 5))


def find_pair(table: Table, texts: Sequence[str]) -> tuple[str, str] | None:
    """Return two columns that belong together by their names, such as sentence1 and sentence2, or by their lengths."""
    names = {_last(name): name for name in texts}
    for first, second in PAIR_NAMES:
        if first in names and second in names:
            return names[first], names[second]
    sides: dict[str, list[str]] = {}
    for short, name in names.items():
        match = NUMBERED.fullmatch(short)
        if match:
            sides.setdefault(match["stem"], []).append(name)
    numbered = next((columns for columns in sides.values() if len(columns) == 2), None)
    if numbered:
        return numbered[0], numbered[1]
    if len(texts) != 2:
        return None
    lengths = [mean_length(table, name) for name in texts]  # subjects and bodies of mails differ
    return (texts[0], texts[1]) if max(lengths) < 4 * min(lengths) else None


def _describe_judged(table: Table, pair: tuple[str, str], roles: Roles) -> Findings:
    """Return the findings about pairs with the likeliest of their classes and scores."""
    classes = [name for name in roles.classes if _last(name) in CLASS_NAMES]
    scores = [name for name in roles.numbers if _last(name) in SCORE_NAMES]
    if not scores and all(map(str.isdecimal, table.columns)):  # without names, a genre looks like a class
        scores = roles.scores
    label = None if not classes and scores else next(iter(classes or roles.classes), None)
    target = label or (scores or roles.scores or roles.numbers)[0]
    findings = describe_judged_pairs(table, pair, target, is_class=label is not None)
    _list_others(findings, [*roles.classes, *scores])
    return findings


def _list_others(findings: Findings, candidates: Sequence[str]) -> None:
    """Add a reason that names the candidates that the recipe does not use."""
    used = findings.recipe["data"].values() if findings.recipe else ()
    others = [name for name in dict.fromkeys(candidates) if name not in used]
    if others:
        findings.reasons.insert(1, f"other columns that could be meant: {', '.join(others)}")


def _last(name: str) -> str:
    """Return the last part of the name of a field inside fields, in lower case."""
    return name.lower().rpartition(".")[2]


def _describe_rest(table: Table, names: Sequence[str]) -> list[str]:
    return [f"column '{name}': neither numbers nor ISO times; not used ({_example(table, name)})" for name in names]


def _describe_no_labels(table: Table, names: Sequence[str]) -> list[str]:
    """Return why each of these columns of a table of texts is not taken for a label."""
    lines = []
    for name in names:
        sample = [value for value in table.columns[name] if value]
        values = pluralize(len(set(sample)), "different value")
        most = most_classes(len(sample))
        lines.append(f"column '{name}': {values} in {pluralize(len(sample), 'row')}, where a label has 2 to {most}")
    return lines


def _example(table: Table, name: str) -> str:
    value = next((value for value in table.columns[name] if value), "empty")
    comma = "; numbers have a point, not a comma" if re.fullmatch(r"-?\d+,\d+", value) else ""
    return f"such as '{value[:40]}'{comma}"


def _rises(values: Sequence[str | None]) -> bool:
    return bool(np.all(np.diff([float(value or "nan") for value in values]) > 0))


def _are_classes(values: Sequence[str | None]) -> bool:
    """Return whether numbers are few whole ones, as labels are."""
    sample = {value for value in values if value}
    return 1 < len(sample) <= 30 and len(sample) < len(values) / 5 and all(float(v).is_integer() for v in sample)
