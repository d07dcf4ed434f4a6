"""Find examples of the same content in two splits, or with two labels, before anything is trained on them.

A data set says by its attributes `duplicates` and `conflicts` what happens to them:

    refuse    nothing is prepared, and the error names the examples
    drop      of a duplicate only the held-out copy stays; of a conflict no example stays
    allow     they stay; data sets without these attributes allow both

Its attribute `bad` says what happens to examples that can't be read: refuse, the default, or skip. All are counted,
and named, in every case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import Refusal, pluralize, printable
from .content import Digests
from .part import PartSummary

MOST_PLACES = 3  # named per sentence
MOST_FAULTS = 12  # named per sentence
SINGULAR = {"are": "is", "have": "has", "lose": "loses", "repeat": "repeats"}  # verbs of the remarks of data sets
HELD_OUT_FIRST = ("test", "validation", "train")  # of a duplicate the copy in the first of these splits stays
Place = tuple[str, int]  # split, row


@dataclass(frozen=True)
class SplitContent:
    """The digests of a split's rows, and their labels if there are any.

    rows: their numbers as the data set counts them (None: 0, 1, ...).
    """

    contents: Digests
    labels: np.ndarray | None
    rows: np.ndarray | None = None


@dataclass(frozen=True)
class Review:
    """The result of a review: {split: rows to drop}, and sentences about what was found."""

    dropped: dict[str, list[int]] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def review_content(dataset: Any, splits: Mapping[str, SplitContent]) -> Review:
    """Return what to drop from the splits of a data set; refuses what the data set's policy refuses."""
    groups = _repeated(splits)
    conflicts = [group for group in groups if len({_label(splits, place) for place in group}) > 1]
    conflict_rows = [place for group in conflicts for place in group]
    dropped: set[Place] = set()
    sentences: list[str] = []
    if conflicts:
        names = _name_places(dataset, conflicts, splits)
        text = f"{len(conflict_rows):,} examples have the same content but different labels: {names}"
        dropped |= _apply_policy(dataset, "conflicts", text, conflict_rows, sentences)
    duplicates: list[Place] = []
    duplicate_groups: list[list[Place]] = []
    for group in groups:
        remaining = [place for place in group if place not in dropped]
        stays = min((split for split, _ in remaining), key=_rank, default="")
        leaks = [place for place in remaining if place[0] != stays]
        if leaks:
            duplicates += leaks
            duplicate_groups.append(remaining)
    if duplicates:
        names = _name_places(dataset, duplicate_groups, splits)
        examples = pluralize(len(duplicates), "example has", "examples have")
        text = f"{examples} the same content as one of another split: {names}"
        dropped |= _apply_policy(dataset, "duplicates", text, duplicates, sentences)
    by_split: dict[str, list[int]] = {}
    for split, row in sorted(dropped):
        by_split.setdefault(split, []).append(row)
    return Review(by_split, sentences)


def review_faults(dataset: Any, summaries: Sequence[PartSummary]) -> list[str]:
    """Return sentences about examples that can't be read, and about what was done to others.

    Refuses the former, all in one line, unless the data set's attribute `bad` is "skip".
    """
    faults = sorted({reason for summary in summaries for reason in summary.faults.values()})
    count = sum(len(summary.faults) for summary in summaries)
    sentences = []
    if faults:
        more = f"; and {len(faults) - MOST_FAULTS:,} more" if len(faults) > MOST_FAULTS else ""
        text = f"{pluralize(count, 'example')} can't be read: {'; '.join(faults[:MOST_FAULTS])}{more}"
        if getattr(dataset, "bad", "refuse") != "skip":
            raise Refusal(f"{dataset.name}: {text}; or set bad: skip")
        sentences.append(f"{text}; left out")
    remarks: Counter[str] = Counter()
    for summary in summaries:
        remarks.update(summary.remarks)
    return sentences + [_describe_remark(remark, number) for remark, number in sorted(remarks.items())]


def _describe_remark(remark: str, number: int) -> str:
    """Return what was done to so many examples; remark: "are not square and lose ...", in the plural."""
    if number == 1:
        clause, comma, rest = remark.partition(",")
        remark = " ".join(SINGULAR.get(word, word) for word in clause.split(" ")) + comma + rest
    return f"{pluralize(number, 'example')} {remark}"


def _apply_policy(dataset: Any, name: str, text: str, places: list[Place], sentences: list[str]) -> set[Place]:
    """Return the places to drop, and add a sentence; refuses if the data set's policy says so."""
    policy = getattr(dataset, name, "allow")
    if policy == "refuse":
        raise Refusal(f"{dataset.name}: {text}; correct the data, or set {name}: drop or allow")
    sentences.append(f"{text}; {'dropped' if policy == 'drop' else 'kept'}")
    return set(places) if policy == "drop" else set()


def _repeated(splits: Mapping[str, SplitContent]) -> list[list[Place]]:
    """Return the places of each content that occurs more than once."""
    if not splits:
        return []
    names = list(splits)
    sizes = [len(content.contents) for content in splits.values()]
    contents = np.concatenate([content.contents for content in splits.values()])
    split_of = np.repeat(np.arange(len(names)), sizes)
    row_of = np.concatenate([np.arange(size) for size in sizes])
    order = np.argsort(contents, kind="stable")
    starts = np.flatnonzero(np.diff(contents[order], prepend=contents[order][:1] + np.uint64(1)))
    ends = np.append(starts[1:], len(order))
    repeated = np.flatnonzero(ends - starts > 1)
    groups = [order[starts[number] : ends[number]] for number in repeated]
    return [[(names[split_of[index]], int(row_of[index])) for index in group] for group in groups]


def _rank(split: str) -> int:
    """Return the place of a split in HELD_OUT_FIRST; other splits come before training."""
    return HELD_OUT_FIRST.index(split) if split in HELD_OUT_FIRST else 1


def _label(splits: Mapping[str, SplitContent], place: Place) -> int | None:
    labels = splits[place[0]].labels
    return None if labels is None else int(labels[place[1]])


def _name_places(dataset: Any, groups: list[list[Place]], splits: Mapping[str, SplitContent]) -> str:
    """Return the first groups as text: files where the data set knows them, otherwise rows, with their classes."""

    def describe_place(place: Place) -> str:
        locate = getattr(dataset, "locate", None)
        rows = splits[place[0]].rows
        row = place[1] if rows is None else int(rows[place[1]])
        text = f"{place[0]} row {row}" if locate is None else printable(locate(place[0], row))
        label = _label(splits, place)
        return text if label is None or not label < len(dataset.classes) else f"{text} ({dataset.classes[label]})"

    named = [" = ".join(map(describe_place, group[:MOST_PLACES])) for group in groups[:MOST_PLACES]]
    more = len(groups) - MOST_PLACES
    return "; ".join(named) + (f"; and {more:,} more" if more > 0 else "")
