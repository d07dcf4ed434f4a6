"""Recognise aligned text files, and plain text."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..data.encoding import read_text
from ..data.picture import SUFFIXES
from ..data.table import SUFFIXES as TABLE_SUFFIXES
from ..data.table_rows import SPLIT_NAMES
from ..data.text_file import SUFFIXES as TEXT_SUFFIXES
from ..data.text_folder import TextFolder
from ..data.text_table import split_words
from ..errors import Refusal, pluralize
from .findings import Findings, Progress, Sample, Tree
from .picture_layouts import describe_other_files, find_base, propose_fit
from .table_layouts import MOST_CLASSES
from .text_layouts import SHOWN, finish_pairs

OTHERS = {  # short suffixes that are not languages
    *(
        "7z",
        "avi",
        "bak",
        "bat",
        "bin",
        "bz2",
        "cfg",
        "conf",
        "css",
        "dat",
        "db",
        "doc",
        "exe",
        "gz",
        "h5",
        "ini",
        "ipynb",
    ),
    *("js", "log", "mat", "md", "mp3", "mp4", "npy", "npz", "pdf", "pkl", "png", "py", "rar", "rtf", "sh", "so", "svg"),
    *("tar", "tgz", "toc", "txt", "wav", "xls", "xml", "xz", "yml", "zip"),
}
FEWEST = 8  # texts from which folders of them are classes
PLACED = 0.9  # share of the texts that must lie below folders of classes
MOST_WORDS = 512  # of a proposed length
LANGUAGE = re.compile(r"(?P<name>.+?)\.(?P<language>[a-z]{2,3})(?:\.txt)?(?:\.gz)?")


def recognise_aligned(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about aligned text files, such as train.en and train.fr; None for any other layout."""
    groups: dict[str, dict[str, Path]] = {}
    for file in tree.files:
        match = LANGUAGE.fullmatch(file.name)
        if match and match["language"] not in OTHERS and f".{match['language']}" not in SUFFIXES | TABLE_SUFFIXES:
            groups.setdefault(match["name"], {})[match["language"]] = file
    groups = {name: files for name, files in groups.items() if len(files) > 1}
    if not groups:
        return None
    main = next((name for name in groups if re.search("train", name.lower())), next(iter(groups)))
    languages = sorted(groups[main])
    source, target = ("en", next(name for name in languages if name != "en")) if "en" in languages else languages[:2]
    findings = Findings("aligned text files (data.parallel_text.ParallelText)")
    of: dict[str, Any] = {"use": "data.parallel_text.ParallelText"}
    used = [main]
    of["files"] = [str(groups[main][source]), str(groups[main][target])]
    for split, argument in (("validation", "validation_files"), ("test", "test_files")):
        names = [name for name, meaning in SPLIT_NAMES.items() if meaning == split]
        for name, files in groups.items():
            if (
                name not in used
                and {source, target} <= files.keys()
                and set(re.split(r"[^a-z]+", name.lower())) & set(names)
            ):
                of[argument] = [str(files[source]), str(files[target])]
                used.append(name)
                break
    lines = {language: _read_lines(groups[main][language]) for language in (source, target)}
    for name in used[1:]:
        findings.facts.append(f"{name}: {pluralize(len(_read_lines(groups[name][source])), 'pair')}")
    if len(languages) > 2:
        findings.reasons.append(
            f"source and target: {source} and {target}, of {', '.join(languages)}; change files for others"
        )
    findings.odd = list(tree.odd)
    if len(lines[source]) != len(lines[target]):
        counts = f"{pluralize(len(lines[source]), 'line')} in {source} and {len(lines[target]):,} in {target}"
        findings.odd.append(f"{main}: {counts}")
        return findings
    progress("texts", 1, 1)
    return finish_pairs(findings, of, list(zip(lines[source], lines[target], strict=True)))


def _read_lines(file: Path) -> list[str]:
    """Return the lines of a text file, packed or not."""
    text = read_text(file)[0]
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def recognise_text_folders(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about folders of classes that hold a text file per example; None for any other layout."""
    files = tree.by_suffix(*TEXT_SUFFIXES)
    if tree.root.is_file() or len(files) < FEWEST:
        return None
    reader = TextFolder(str(find_base(tree.root)), bad="skip")
    try:
        if len(reader.rows) < PLACED * len(files) or len(reader.classes) > MOST_CLASSES:
            return None
        splits = reader.splits
    except Refusal:
        return None
    findings = Findings("a text file per example in folders of classes (data.text_folder.TextFolder)")
    lengths = []
    for split, entries in splits.items():
        rows = [entry for entry in entries if isinstance(entry, int)]
        findings.counts[split] = dict(Counter(reader.labels[row] for row in rows))
        lengths += [len(split_words(reader.texts[row]).split()) for row in rows]
        progress("texts", len(lengths), len(reader.rows))
    faults = [fault.reason for entries in splits.values() for fault in entries.faults]
    findings.facts = [f"words and marks per text: median {np.median(lengths):.0f}, longest {max(lengths)}"]
    findings.odd = tree.odd + faults + reader.notes
    length = min(MOST_WORDS, int(2 ** np.ceil(np.log2(max(8, np.quantile(lengths, 0.95))))))
    share = float((np.array(lengths) <= length).mean())
    findings.reasons = [f"length: {length}, which leaves {share:.1%} of the texts uncut"]
    data: dict[str, Any] = {"use": "data.text_folder.TextFolder", "folder": str(reader.folder), "length": length}
    data |= {"min_count": 2, "conflicts": "drop"} | ({"bad": "skip"} if faults else {})
    task = {
        "use": "tasks.text_classification.TextClassification",
        "model": {"use": "models.bag_of_words.BagOfWords"},
        "optimizer": {"use": "optimizers.adam", "lr": 0.05},
    }
    count = len(splits["train"])
    findings.recipe = {"data": data, "task": task, "fit": propose_fit(count, 64 if count >= 640 else 16, 1000)}
    shown = range(0, len(reader.rows), max(1, len(reader.rows) // SHOWN))
    findings.samples = [Sample(f"{reader.labels[row]}: {' '.join(reader.texts[row].split())[:110]}") for row in shown]
    return findings


def recognise_text(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about a plain text; None where there is none, or where most files are pictures."""
    files = tree.by_suffix(".txt", ".md", ".text")
    if not files or len(tree.by_suffix(*SUFFIXES)) > len(files):
        return None
    findings = Findings("plain text (data.text_file.TextFile)", odd=list(tree.odd))
    total = 0
    letters: Counter[str] = Counter()
    for number, file in enumerate(files, 1):
        try:
            text, encoding = read_text(file)
        except Refusal as refusal:
            findings.odd.append(str(refusal))
            continue
        total += len(text)
        letters.update(text[: 1 << 20])
        if encoding not in ("utf-8", "utf-8-sig"):
            findings.odd.append(f"{tree.name(file)}: read as {encoding}")
        if len(findings.samples) < SHOWN:
            findings.samples.append(Sample(f"{tree.name(file)}: {' '.join(text[:400].split())[:110]}"))
        progress("texts", number, len(files))
    named = [tree.name(file) for file in files if set(re.split(r"[^a-z]+", file.stem.lower())) & SPLIT_NAMES.keys()]
    if len(named) > 1:
        findings.odd.append(f"{', '.join(named)}: look like splits, but are read as one text; name one as path")
    findings.odd += describe_other_files(tree, {".txt", ".md", ".text"})
    findings.facts = [f"{pluralize(len(files), 'file')}, {total:,} characters, {len(letters)} different ones"]
    path = str(tree.root if len(files) > 1 else files[0])
    steps = 64
    findings.recipe = {
        "data": {
            "use": "data.text.Text",
            "of": {"use": "data.text_file.TextFile", "path": path},
            "steps": steps,
            "min_count": 5,
        },
        "task": {
            "use": "tasks.language.LanguageModel",
            "model": {"use": "models.recurrent.Recurrent", "cell": "gru", "embedding": 32, "hidden": 192},
            "optimizer": {"use": "optimizers.adamw", "lr": 6e-3},
            "carry": True,
        },
        "fit": propose_fit(total // steps, 32, 1000) | {"clip": 1.0, "order": "sequential", "shards": 2},
    }
    return findings
