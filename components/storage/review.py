"""Find examples of the same content in two splits, or with two labels, before anything is trained on them.

A data set says by its attributes `duplicates` and `conflicts` what happens to them:

    refuse    nothing is prepared, and the error names the examples
    drop      of a duplicate only the held-out copy stays; of a conflict no example stays
    allow     they stay; data sets without these attributes allow both

They are counted and named in every case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import Refusal
from .content import Digests

MOST_PLACES = 3  # named per sentence
HELD_OUT_FIRST = ("test", "validation", "train")  # of a duplicate the copy in the first of these splits stays
Place = tuple[str, int]  # split, row


@dataclass(frozen=True)
class SplitContent:
    """The digests of a split's rows, and their labels if there are any."""

    contents: Digests
    labels: np.ndarray | None


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
        text = f"{len(duplicates):,} examples have the same content as one of another split: {names}"
        dropped |= _apply_policy(dataset, "duplicates", text, duplicates, sentences)
    by_split: dict[str, list[int]] = {}
    for split, row in sorted(dropped):
        by_split.setdefault(split, []).append(row)
    return Review(by_split, sentences)


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
        text = f"{place[0]} row {place[1]}" if locate is None else f"{locate(*place)}"
        label = _label(splits, place)
        return text if label is None or not label < len(dataset.classes) else f"{text} ({dataset.classes[label]})"

    named = [" = ".join(map(describe_place, group[:MOST_PLACES])) for group in groups[:MOST_PLACES]]
    more = len(groups) - MOST_PLACES
    return "; ".join(named) + (f"; and {more:,} more" if more > 0 else "")
