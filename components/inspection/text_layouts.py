"""Describe tables of texts with labels, of pairs of sentences with a class or a score, and of translations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from ..data.dialect import PHRASE
from ..data.table import Table
from ..data.table_rows import list_classes
from ..data.text_table import split_words
from ..errors import pluralize
from .findings import Findings, Sample, condense_rows
from .picture_layouts import propose_fit

SAMPLED = 2000  # values by which a column is judged
Value = TypeVar("Value")
SHOWN = 12  # texts on the sheet
WORDS = 2.5  # mean words from which a column is a text
MOST_WORDS = 5000  # of a language in a proposed translation: the last layer takes most of the time
BERT_TABLE = "data.sentence_table.SentenceTable"
BERT = "data/raw/minilm"
BATCH = 16
TOKENS = 200_000  # that a proposed fine-tuning reads, with padding: minutes of one processor for a small BERT
COVERED = 0.95  # share of the texts that the proposed length does not cut


def describe_texts(table: Table, text: str, label: str) -> Findings:
    """Return the findings about texts with labels."""
    findings = Findings("a table of texts with labels (data.text_table.TextTable)")
    texts = [(value or "").strip() for value in table.columns[text]]
    is_short = float(np.mean([len(value.split()) for value in texts])) < WORDS
    labels = [(value or "").strip() for value in table.columns[label]]
    findings.counts["rows"] = {name: labels.count(name) for name in list_classes(labels)}
    lengths = np.array([len(value) if is_short else len(split_words(value).split()) for value in texts])
    findings.facts = [
        f"{pluralize(table.rows, 'row')}, columns {table.list_columns()}",
        f"{'characters' if is_short else 'words and marks'} per text: median {np.median(lengths):.0f},"
        f" longest {lengths.max()}",
    ]
    findings.odd = table.notes + table.faults
    empty = [row for row, (value, name) in enumerate(zip(texts, labels, strict=True)) if not (value and name)]
    findings.odd += [f"{table.locate(row)}: without a text or a label" for row in empty]
    pairs = dict.fromkeys(zip(texts, labels, strict=True))
    repeated = table.rows - len(pairs)
    if repeated:
        repeats = pluralize(repeated, "row repeats an earlier one", "rows repeat an earlier one")
        findings.odd.append(f"{repeats} (equal rows get into one split)")
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
        findings.reasons.append(f"bad: skip, because {pluralize(len(empty) + len(table.faults), 'row')} can't be used")
    if contradicting:
        data["conflicts"] = "drop"
        findings.reasons.append("conflicts: drop, because some texts have several labels")
    sizes = [count for count in findings.counts["rows"].values() if count]
    findings.recipe, reasons = propose_text_classifier(data, table.rows, is_balanced=max(sizes) <= 3 * min(sizes))
    findings.reasons += reasons
    by_class = [[row for row, other in enumerate(labels) if other == name] for name in list_classes(labels)[:SHOWN]]
    rows = [row for members in by_class for row in members[:: max(1, len(members) * len(by_class) // SHOWN)]]
    findings.samples = [Sample(f"{labels[row]}: {texts[row][:110]}") for row in rows[: 2 * SHOWN]]
    return findings


def propose_text_classifier(data: dict[str, Any], rows: int, is_balanced: bool) -> tuple[dict[str, Any], list[str]]:
    """Return a recipe that classifies the texts of the section `data`, and the reasons."""
    reasons = [
        "model: the linear baseline; then try models.text_cnn.TextCNN with lr: 2e-3",
        f"for a pretrained BERT: {BERT_TABLE} and tasks.sentences (pipelines/bert/README.md)",
    ]
    task: dict[str, Any] = {"use": "tasks.text_classification.TextClassification"}
    if not is_balanced:
        task["weights"] = "balanced"
        reasons.insert(0, "weights: balanced, because the rarest class has less than a third of the largest")
    task["model"] = {"use": "models.bag_of_words.BagOfWords"}
    task["optimizer"] = {"use": "optimizers.adam", "lr": 0.05}
    return {"data": data, "task": task, "fit": propose_fit(rows, 64 if rows >= 640 else 16, 1000)}, reasons


def describe_judged_pairs(table: Table, texts: Sequence[str], target: str, is_class: bool) -> Findings:
    """Return the findings about pairs of sentences with a class or a number in the column `target`."""
    findings = Findings(f"a table of pairs of sentences with a {'class' if is_class else 'score'} ({BERT_TABLE})")
    columns = [table.columns[name] for name in (*texts, target)]
    empty = [row for row, values in enumerate(zip(*columns, strict=True)) if not all(values)]
    findings.facts = [f"{pluralize(table.rows, 'row')}, columns {table.list_columns()}"]
    findings.odd = table.notes + table.faults
    findings.odd += [f"{table.locate(row)}: a text, class or score is missing" for row in empty]
    if is_class:
        findings.counts["rows"] = {name: columns[2].count(name) for name in list_classes(columns[2])}
    words = np.array([sum(len((value or "").split()) for value in pair) for pair in zip(*columns[:2], strict=True)])
    length = min(512, int(2 ** np.ceil(np.log2(max(16, 1.5 * np.quantile(words, COVERED))))))
    data: dict[str, Any] = {"use": BERT_TABLE, "file": str(table.file), "text": texts[0], "pair": texts[1]}
    data["label" if is_class else "score"] = target
    data |= {"bad": "skip"} if empty or table.faults else {}
    task = "sentences.SentenceClassification" if is_class else "sentence_regression.SentenceRegression"
    findings.recipe, reasons = propose_finetuning(data, f"tasks.{task}", length, table.rows)
    pair = f"text: '{texts[0]}' and pair: '{texts[1]}' belong together by their names or lengths"
    findings.reasons = [f"{pair}; the target: '{target}'", *reasons]
    rows = np.unique(np.linspace(0, table.rows - 1, SHOWN).astype(int))
    findings.samples = [Sample("  |  ".join((column[row] or "")[:50] for column in columns)) for row in rows]
    return findings


def propose_finetuning(data: dict[str, Any], task: str, length: int, count: int) -> tuple[dict[str, Any], list[str]]:
    """Return a recipe that fine-tunes a BERT on `count` examples of up to `length` tokens, and the reasons."""
    steps = min(200, TOKENS // (BATCH * length))
    limit = steps * BATCH
    reasons = [
        f"length: {length} tokens, about 1.5 per word",
        "start: a folder with a BERT (pipelines/bert/README.md says where to get one)",
    ]
    if count > limit:
        data = data | {"limit": limit}
        reasons.append(f"limit: {limit:,} of {count:,} examples, so that a fit takes minutes; leave it out to use all")
    fit = propose_fit(min(count, limit), BATCH, steps)
    fit |= {"clip": 1.0, "schedule": {"use": "schedules.linear", "warmup": 0.1}}
    section = {"use": task, "start": BERT, "length": length, "layer_decay": 0.9, "frozen": 2}
    optimizer = {"use": "optimizers.adamw", "lr": 1e-4}
    return {"data": data, "task": section | {"optimizer": optimizer}, "fit": fit}, reasons


def describe_pairs(table: Table, source: str, target: str) -> Findings:
    """Return the findings about a table of sentence pairs."""
    findings = Findings("a table of sentence pairs (data.parallel_text.ParallelText)")
    pairs = list(zip(table.columns[source], table.columns[target], strict=True))
    of = {"use": "data.parallel_text.ParallelText", "file": str(table.file), "source": source, "target": target}
    findings.odd = table.notes + table.faults
    if max(len(name.split()) for name in (source, target)) >= PHRASE:
        findings.reasons.append(
            f"source: '{source}' is taken from the first line; set header: false if that line is a pair, too"
        )
    return finish_pairs(findings, of, [(sentence or "", translation or "") for sentence, translation in pairs])


def finish_pairs(findings: Findings, of: dict[str, Any], pairs: list[tuple[str, str]]) -> Findings:
    """Add facts, the recipe and samples of sentence pairs."""
    empty = [number for number, pair in enumerate(pairs, 1) if not all(side.strip() for side in pair)]
    lengths = np.array([[len(split_words(side).split()) for side in pair] for pair in pairs])
    findings.facts += [
        pluralize(len(pairs), "pair"),
        f"words per sentence: median {np.median(lengths[:, 0]):.0f} and {np.median(lengths[:, 1]):.0f},"
        f" longest {lengths[:, 0].max()} and {lengths[:, 1].max()}",
    ]
    findings.odd += condense_rows([f"pair {number}: a side is empty" for number in empty])
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


def mean_length(table: Table, name: str) -> float:
    """Return the mean number of characters of a column."""
    return float(np.mean([len(value or "") for value in spread(table.columns[name])]))


def spread(values: Sequence[Value]) -> Sequence[Value]:
    """Return at most about SAMPLED values, evenly spaced: tables are often sorted, with the shortest texts first."""
    return values[:: -(-len(values) // SAMPLED) or 1]
