"""Recognise files with a word and its tag per line, such as those of named entities."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..data.table_rows import SPLIT_NAMES
from ..data.tagged_file import OUTSIDE, TaggedFile
from ..errors import Refusal, pluralize
from ..files import open_regular
from .findings import Findings, Progress, Sample, Tree
from .text_layouts import COVERED, SHOWN, propose_finetuning

SAMPLE = 64 << 10  # bytes by which such a file is recognised
TAGGED = 0.98  # share of the lines that must end in a tag
MOST_FILES = 50
TAG = re.compile(rb"\S.*\s(O|[BIES]-\S+)\s*")
CONLL_2003 = {"testa": "validation", "testb": "test"}  # suffixes of its files


def recognise_tagged(tree: Tree, progress: Progress) -> Findings | None:
    """Return the findings about such files; None where there is none."""
    files = [file for file in tree.files if is_tagged(file)] if len(tree.files) <= MOST_FILES else []
    if not files:
        return None
    splits = {split: file for file in reversed(files) if (split := _find_split(file)) != "train"}
    rest = [file for file in files if file not in splits.values()]
    main = max(rest or files, key=lambda file: ("train" in file.name.lower(), file.stat().st_size))
    data: dict[str, Any] = {"use": "data.tagged_file.TaggedFile", "file": str(main)}
    data |= {f"{split}_file": str(splits[split]) for split in ("validation", "test") if splits.get(split, main) != main}
    findings = Findings("a word and its tag per line (data.tagged_file.TaggedFile)")
    reader = TaggedFile(**{name: value for name, value in data.items() if name != "use"}, bad="skip")
    try:
        classes, entries = reader.classes, reader.splits
    except Refusal as refusal:
        findings.odd = [str(refusal), *tree.odd]
        return findings
    lengths: list[int] = []
    faults: list[str] = []
    for split, columns in reader.sentences.items():
        entities: Counter[str] = Counter()
        for row in columns["tags"]:
            tags = (row or "").split()
            lengths.append(len(tags))
            entities.update(tag[2:] for tag in tags if tag.startswith("B-"))
        findings.counts[f"{split} file, entities"] = dict(entities)
    for _, rows in entries.values():
        faults += [fault.reason for fault in rows.faults]
    progress("texts", 1, 1)
    findings.facts = [
        f"{pluralize(len(lengths), 'sentence')}, tags {', '.join(classes[:12])}{', ...' if len(classes) > 12 else ''}",
        f"words per sentence: median {np.median(lengths):.0f}, longest {max(lengths)}",
    ]
    unused = [file for file in tree.files if str(file) not in data.values()]
    findings.odd = tree.odd + reader.notes + faults
    findings.odd += (
        [f"{pluralize(len(unused), 'file')} beside them, such as {tree.name(unused[0])}: not used"] if unused else []
    )
    data |= {"bad": "skip"} if faults else {}
    length = min(512, int(2 ** np.ceil(np.log2(max(16, 1.5 * np.quantile(lengths, COVERED))))))
    findings.recipe, findings.reasons = propose_finetuning(
        data, "tasks.tagging.Tagging", length, len(entries["train"][1])
    )
    columns = reader.sentences["train"]
    shown = np.unique(np.linspace(0, len(columns["text"]) - 1, SHOWN).astype(int))
    pairs = ((columns["text"][row] or "", columns["tags"][row] or "") for row in shown.tolist())
    findings.samples = [Sample(_mark_entities(text, tags)[:110]) for text, tags in pairs]
    return findings


def is_tagged(file: Path) -> bool:
    """Return whether nearly all lines of a file end in a tag of entities, and empty lines separate them."""
    with open_regular(file) as content:
        start = content.read(SAMPLE)
    if b"\0" in start:
        return False
    lines = start.splitlines()[: -1 if len(start) == SAMPLE else None]
    filled = [line for line in lines if line.strip()]
    tagged = [match[1] for line in filled if (match := TAG.fullmatch(line))]
    return len(filled) < len(lines) and len(tagged) > max(1, TAGGED * len(filled)) and set(tagged) > {OUTSIDE.encode()}


def _find_split(file: Path) -> str:
    """Return the split that a file's name says; "train" if it says none."""
    names = SPLIT_NAMES | CONLL_2003
    words = re.split(r"[^a-z]+", file.name.lower())
    return next((names[word] for word in words if word in names), "train")


def _mark_entities(text: str, tags: str) -> str:
    """Return the words, those with a tag followed by it."""
    pairs = zip(text.split(), tags.split(), strict=True)
    return " ".join(word if tag == OUTSIDE else f"{word}/{tag}" for word, tag in pairs)
