"""Recognise tables of texts, of sentence pairs, and of numbers over time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..data.series_table import read_time
from ..data.table import SAMPLE_LINES, Table, is_number, read_table
from ..data.table import SUFFIXES as TABLE_SUFFIXES
from ..data.table_rows import SPLIT_NAMES, list_classes
from ..data.text_columns import TextColumn
from ..data.text_table import split_words
from ..errors import Refusal, printable
from ..files import open_regular
from .findings import Findings, Progress, Sample, Tree
from .picture_layouts import propose_fit

SAMPLE = 64 << 10  # bytes by which a table is recognised
EXAMINED = 200_000  # rows of a table
SHOWN = 12  # texts on the sheet
WORDS = 2.5  # mean words from which a column is a text
MOST_CLASSES = 200
MOST_WORDS = 5000  # of a language in a proposed translation: the last layer takes most of the time
BERT_TABLE = "data.sentence_table.SentenceTable"
COVERED = 0.95  # share of the texts that the proposed length does not cut


def recognise_tables(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about one table, or one per split; None where there is none."""
    files = tree.by_suffix(*(TABLE_SUFFIXES - {".txt"})) or [
        file for file in tree.by_suffix(".txt") if holds_tabs(file)
    ]
    if not files or len(files) > 12:
        return None
    tables: dict[Path, Table] = {}
    faults = []
    for number, file in enumerate(files, 1):
        try:
            tables[file] = read_table(file)
        except Refusal as refusal:
            faults.append(str(refusal))
        progress("tables", number, len(files))
    if not tables:
        return Findings("tables that can't be read", odd=faults) if faults else None
    main = _choose_main(tables)
    table = tables[main]
    findings = _describe_table(table)
    for split, name in (("validation", "validation_file"), ("test", "test_file")):
        other = _find_split(tables, main, split)
        if other is not None and findings.recipe and findings.recipe["data"]["use"] == "data.text_table.TextTable":
            findings.recipe["data"][name] = str(other)
            findings.reasons.append(f"{name}: a table with the same columns")
    others = [file for file in tables if file != main and str(file) not in str(findings.recipe)]
    findings.odd = tree.odd + faults + findings.odd + [f"{tree.name(file)}: another table; not used" for file in others]
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


def _find_split(tables: dict[Path, Table], main: Path, split: str) -> Path | None:
    """Return the table of a split with the columns of the main one, or None."""
    names = [name for name, meaning in SPLIT_NAMES.items() if meaning == split]
    for file, table in tables.items():
        words = re.split(r"[^a-z]+", file.stem.lower())
        if file != main and table.columns.keys() >= tables[main].columns.keys() and set(words) & set(names):
            return file
    return None


def cut_table(table: Table) -> Table:
    """Return the first EXAMINED rows of a table, with a note if there are more: inspection takes memory per row."""
    if table.rows <= EXAMINED:
        return table
    columns = {name: TextColumn([pa.array(values[:EXAMINED], pa.string())]) for name, values in table.columns.items()}
    note = f"{printable(table.file)}: the first {EXAMINED:,} of {table.rows:,} rows are examined; a fit reads all"
    return Table(table.file, columns, table.faults, [*table.notes, note])


def _describe_table(table: Table) -> Findings:
    """Return the findings about a table by the kinds of its columns."""
    findings = _describe_columns(cut_table(table))
    if findings.recipe and table.rows > EXAMINED:
        fit = findings.recipe["fit"]
        findings.recipe["fit"] = fit | {"epochs": max(1, round(fit["epochs"] * EXAMINED / table.rows))}
    return findings


def _describe_columns(table: Table) -> Findings:
    """Return the findings about a table that fits into memory."""
    texts: list[str] = []
    labels: list[str] = []
    numbers: list[str] = []
    times: list[str] = []
    words: list[str] = []  # columns of short texts
    for name, values in table.columns.items():
        sample = [value for value in values if value]
        if not sample:
            continue
        different = len(set(sample))
        if all(is_number(value) for value in sample):
            rises = different == len(values) and _rises(values)
            (times if rises and name.lower() in ("time", "date", "t", "index", "timestamp") else numbers).append(name)
        elif all(read_time(value) is not None for value in sample[:200]):
            times.append(name)
        elif np.mean([len(value.split()) for value in sample[:2000]]) >= WORDS:
            texts.append(name)
        elif 1 < different <= min(MOST_CLASSES, max(2, len(sample) // 5)):
            labels.append(name)
        elif different > MOST_CLASSES // 10 and np.mean([any(map(str.isalpha, value)) for value in sample]) > COVERED:
            words.append(name)
    classes = labels + [name for name in numbers if _are_classes(table.columns[name])]
    preferred = ("label", "class", "category", "target", "sentiment", "intent", "v1", "y")
    classes.sort(key=lambda name: (name.lower().rpartition(".")[2] not in preferred, len(set(table.columns[name]))))
    if len(texts) == 2 and _are_alike(table, texts) and (classes or len(numbers) == 1):
        return _describe_judged_pairs(table, texts, classes[0] if classes else None, numbers)
    texts = texts or (words if classes else [])
    if texts and classes:
        findings = _describe_texts(table, max(texts, key=lambda name: _mean_length(table, name)), classes[0])
        others = [
            name for name in [*classes[1:], *texts] if name not in (findings.recipe or {}).get("data", {}).values()
        ]
        if others:
            findings.reasons.insert(1, f"other columns that could be meant: {', '.join(others)}")
        return findings
    if len(texts) >= 2:
        return _describe_pairs(table, texts[0], texts[1])
    if numbers and not texts:
        findings = _describe_series(table, numbers, times[0] if times else None)
        rest = [name for name in table.columns if name not in [*numbers, *times[:1]]]
        findings.odd += [
            f"column '{name}': neither numbers nor ISO times; not used ({_example(table, name)})" for name in rest
        ]
        return findings
    return Findings(
        "a table without a text and a label, two texts, or numbers over time",
        facts=[f"{printable(table.file)}: {table.rows:,} rows with columns {table.list_columns()}"],
        odd=table.notes + table.faults,
    )


def _are_alike(table: Table, texts: Sequence[str]) -> bool:
    """Return whether two columns of texts are similarly long, unlike subjects and bodies of mails."""
    lengths = [_mean_length(table, name) for name in texts]
    return max(lengths) < 4 * min(lengths)


def _example(table: Table, name: str) -> str:
    value = next((value for value in table.columns[name] if value), "empty")
    comma = "; numbers have a point, not a comma" if re.fullmatch(r"-?\d+,\d+", value) else ""
    return f"such as '{value[:40]}'{comma}"


def _mean_length(table: Table, name: str) -> float:
    return float(np.mean([len(value or "") for value in table.columns[name][:2000]]))


def _rises(values: Sequence[str | None]) -> bool:
    return bool(np.all(np.diff([float(value or "nan") for value in values]) > 0))


def _are_classes(values: Sequence[str | None]) -> bool:
    """Return whether numbers are few whole ones, as labels are."""
    sample = {value for value in values if value}
    return 1 < len(sample) <= 30 and len(sample) < len(values) / 5 and all(float(v).is_integer() for v in sample)


def _describe_texts(table: Table, text: str, label: str) -> Findings:
    """Return the findings about texts with labels."""
    findings = Findings("a table of texts with labels (data.text_table.TextTable)")
    texts = [(value or "").strip() for value in table.columns[text]]
    is_short = float(np.mean([len(value.split()) for value in texts])) < WORDS
    labels = [(value or "").strip() for value in table.columns[label]]
    findings.counts["rows"] = {name: labels.count(name) for name in list_classes(labels)}
    lengths = np.array([len(value) if is_short else len(split_words(value).split()) for value in texts])
    findings.facts = [
        f"{table.rows:,} rows, columns {table.list_columns()}",
        f"{'characters' if is_short else 'words and marks'} per text: median {np.median(lengths):.0f},"
        f" longest {lengths.max()}",
    ]
    findings.odd = table.notes + table.faults
    empty = [row for row, (value, name) in enumerate(zip(texts, labels, strict=True), 1) if not (value and name)]
    findings.odd += [f"row {row}: without a text or a label" for row in empty]
    pairs = set(zip(texts, labels, strict=True))
    repeated = table.rows - len(pairs)
    findings.odd += [f"{repeated:,} rows repeat an earlier one (they get into one split)"] if repeated else []
    meanings = Counter(value for value, _ in pairs)
    contradicting = [value for value, count in meanings.items() if count > 1 and value]
    findings.odd += [f"several labels for the text: {value[:80]}" for value in contradicting]
    length = int(2 ** np.ceil(np.log2(max(8, np.quantile(lengths, COVERED)))))
    data: dict[str, Any] = {
        "use": "data.text_table.TextTable",
        "file": str(table.file),
        "text": text,
        "label": label,
        "length": min(512, length),
        **({"tokens": "char"} if is_short else {"min_count": 2}),
    }
    findings.reasons = [
        f"text: '{text}' holds the longest texts; label: '{label}' has {len(set(labels) - {''})} different values",
        *(["tokens: char, because the texts are hardly more than a word"] if is_short else []),
        f"length: {data['length']}, which leaves {(lengths <= data['length']).mean():.1%} of the texts uncut",
    ]
    if empty or table.faults:
        data["bad"] = "skip"
        findings.reasons.append(f"bad: skip, because {len(empty) + len(table.faults):,} rows can't be used")
    if contradicting:
        data["conflicts"] = "drop"
        findings.reasons.append("conflicts: drop, because some texts have several labels")
    sizes = [count for count in findings.counts["rows"].values() if count]
    weights = {"weights": "balanced"} if max(sizes) > 3 * min(sizes) else {}
    if weights:
        findings.reasons.append("weights: balanced, because the rarest class has less than a third of the largest")
    findings.recipe = {
        "data": data,
        "task": {
            "use": "tasks.text_classification.TextClassification",
            **weights,
            "model": {"use": "models.bag_of_words.BagOfWords"},
            "optimizer": {"use": "optimizers.adam", "lr": 0.05},
        },
        "fit": propose_fit(table.rows, 64 if table.rows >= 640 else 16, 1000),
    }
    findings.reasons.append("model: the linear baseline; then try models.text_cnn.TextCNN with lr: 2e-3")
    findings.reasons.append(f"for a pretrained BERT: {BERT_TABLE} and tasks.sentences (pipelines/bert/README.md)")
    by_class = [[row for row, other in enumerate(labels) if other == name] for name in list_classes(labels)[:SHOWN]]
    rows = [row for members in by_class for row in members[:: max(1, len(members) * len(by_class) // SHOWN)]]
    findings.samples = [Sample(f"{labels[row]}: {texts[row][:110]}") for row in rows[: 2 * SHOWN]]
    return findings


def _describe_judged_pairs(table: Table, texts: Sequence[str], label: str | None, numbers: Sequence[str]) -> Findings:
    """Return the findings about pairs of sentences with a class or, without a `label`, a number."""
    findings = Findings(f"a table of pairs of sentences with a {'class' if label else 'score'} ({BERT_TABLE})")
    columns = [table.columns[name] for name in (*texts, label or numbers[0])]
    empty = [row for row, values in enumerate(zip(*columns, strict=True), 1) if not all(values)]
    findings.facts = [f"{table.rows:,} rows, columns {', '.join(table.columns)}"]
    findings.odd = table.notes + table.faults + [f"row {row}: a text, class or score is missing" for row in empty]
    if label:
        findings.counts["rows"] = {name: columns[2].count(name) for name in list_classes(columns[2])}
    words = np.array([sum(len((value or "").split()) for value in pair) for pair in zip(*columns[:2], strict=True)])
    length = min(512, int(2 ** np.ceil(np.log2(max(16, 1.5 * np.quantile(words, COVERED))))))
    data: dict[str, Any] = {"use": BERT_TABLE, "file": str(table.file), "text": texts[0], "pair": texts[1]}
    data |= {"label": label} if label else {"score": numbers[0]}
    data |= {"bad": "skip"} if empty or table.faults else {}
    task = "sentences.SentenceClassification" if label else "sentence_regression.SentenceRegression"
    findings.recipe = {
        "data": data,
        "task": {
            "use": f"tasks.{task}",
            "start": "data/raw/minilm",
            "length": length,
            "layer_decay": 0.9,
            "optimizer": {"use": "optimizers.adamw", "lr": 1e-4},
        },
        "fit": propose_fit(table.rows, 16, 200) | {"clip": 1.0, "schedule": {"use": "schedules.linear", "warmup": 0.1}},
    }
    findings.reasons = [
        f"text: '{texts[0]}' and pair: '{texts[1]}' are similarly long",
        f"length: {length} tokens of both texts, about 1.5 per word",
        "start: a folder with a BERT (pipelines/bert/README.md says where to get one)",
    ]
    rows = np.unique(np.linspace(0, table.rows - 1, SHOWN).astype(int))
    findings.samples = [Sample("  |  ".join((column[row] or "")[:50] for column in columns)) for row in rows]
    return findings


def _describe_pairs(table: Table, source: str, target: str) -> Findings:
    """Return the findings about a table of sentence pairs."""
    findings = Findings("a table of sentence pairs (data.parallel_text.ParallelText)")
    pairs = list(zip(table.columns[source], table.columns[target], strict=True))
    of = {"use": "data.parallel_text.ParallelText", "file": str(table.file), "source": source, "target": target}
    findings.odd = table.notes + table.faults
    return finish_pairs(findings, of, [(sentence or "", translation or "") for sentence, translation in pairs])


def finish_pairs(findings: Findings, of: dict[str, Any], pairs: list[tuple[str, str]]) -> Findings:
    """Add facts, the recipe and samples of sentence pairs."""
    empty = [number for number, pair in enumerate(pairs, 1) if not all(side.strip() for side in pair)]
    lengths = np.array([[len(split_words(side).split()) for side in pair] for pair in pairs])
    findings.facts += [
        f"{len(pairs):,} pairs",
        f"words per sentence: median {np.median(lengths[:, 0]):.0f} and {np.median(lengths[:, 1]):.0f},"
        f" longest {lengths[:, 0].max()} and {lengths[:, 1].max()}",
    ]
    findings.odd += [f"pair {number}: a side is empty" for number in empty]
    length = int(np.quantile(lengths, 0.99)) + 2
    if empty:
        of["bad"] = "skip"
    cut = float((lengths.max(1) + 1 > length).mean())
    findings.reasons.append(f"length: {length} cuts {cut:.1%} of the pairs; translations are scored uncut")
    count = _choose_count(pairs)
    if count > 1:
        findings.reasons.append(f"min_count: {count}, which keeps at most {MOST_WORDS:,} words per language known")
    findings.recipe = {
        "data": {"use": "data.parallel.Parallel", "of": of, "length": length, "min_count": count},
        "task": {
            "use": "tasks.translation.Translation",
            "model": {"use": "models.seq2seq.Seq2Seq", "embedding": 64, "hidden": 128, "attention": "additive"},
            "optimizer": {"use": "optimizers.adam", "lr": 3e-3},
        },
        "fit": propose_fit(len(pairs), 64, 900) | {"clip": 1.0},
    }
    rows = np.unique(np.linspace(0, len(pairs) - 1, SHOWN).astype(int))
    findings.samples = [Sample(f"{pairs[row][0][:70]}  =  {pairs[row][1][:70]}") for row in rows]
    return findings


def _choose_count(pairs: Sequence[tuple[str, str]]) -> int:
    """Return the lowest number of occurrences that at most MOST_WORDS words of each language have."""
    sides = [Counter(word for pair in pairs for word in split_words(pair[side]).split()) for side in (0, 1)]
    counts = [sorted(words.values(), reverse=True) for words in sides]
    return max([1, *(numbers[MOST_WORDS] + 1 for numbers in counts if len(numbers) > MOST_WORDS)])


def _describe_series(table: Table, numbers: list[str], time: str | None) -> Findings:
    """Return the findings about numbers over time."""
    findings = Findings("a table of numbers over time (data.series_table.SeriesTable)")
    gaps = {name: sum(not value for value in table.columns[name]) for name in numbers}
    findings.facts = [f"{table.rows:,} rows, {len(numbers)} columns of numbers: {', '.join(numbers[:12])}"]
    findings.odd = table.notes + table.faults
    findings.odd += [f"column '{name}': empty in {count:,} rows" for name, count in gaps.items() if count]
    span = max(1, table.rows // 50)
    window, horizon = min(96, 2 * span), min(24, max(1, span // 2))
    data: dict[str, Any] = {"use": "data.series_table.SeriesTable", "file": str(table.file), "columns": numbers}
    data |= {"window": window, "horizon": horizon}
    findings.reasons = [f"window: {window} and horizon: {horizon} rows are a guess; set what you want to predict"]
    if time is not None:
        data["time"] = time
        values = [read_time(value) for value in table.columns[time]]
        steps = np.diff([value if value is not None else np.nan for value in values])
        findings.odd += [
            f"row {row + 2}: its time is not later than the row before" for row in np.flatnonzero(~(steps > 0))
        ]
        usual = float(np.median(steps))
        odd_steps = int(np.sum(~np.isclose(steps, usual)))
        if odd_steps:
            findings.odd.append(f"{odd_steps:,} steps in time differ from the usual one of {usual:g} s")
    if any(gaps.values()):
        data["missing"] = "previous"
        findings.reasons.append("missing: previous, because some values are empty")
    findings.counts["rows"] = {"rows": table.rows}
    findings.recipe = {
        "data": data,
        "task": {
            "use": "tasks.window_forecast.WindowForecast",
            "model": {"use": "models.window_linear.WindowLinear", "difference": True},
            "optimizer": {"use": "optimizers.adam", "lr": 1e-3},
        },
        "fit": propose_fit(table.rows, 64 if table.rows >= 640 else 16, 1000),
    }
    findings.samples = [
        Sample(f"{name}: {', '.join(str(v) for v in table.columns[name][:8])} ...") for name in numbers[:12]
    ]
    return findings
