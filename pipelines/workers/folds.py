"""Divide the training split into folds, so that training learns nothing from the fold held out.

Statistics are those of the rows that are trained on. Tokens that these rows lack are read as unknown. Where scores
steer the training, they come from rows that the fold held out does not contain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from components.storage.column_statistics import measure_columns
from components.storage.feed import Feed
from components.storage.mapped import MappedSplit
from components.storage.moments import compute_moments
from components.storage.order import contiguous_folds, stratified_folds
from components.storage.store import Store
from components.storage.tokenizer_files import count_tokens
from components.storage.vocabulary import SPECIAL, UNK, UNKNOWN, split_vocabularies
from components.training.task import Spec
from pipelines.workers.records import TrialSetup
from pipelines.workers.training import read_spec, train_feed

BLOCK = 4096  # rows in memory at once


@dataclass(frozen=True)
class Feeds:
    """The examples of one rung: to train on, to score on, and to watch for early stopping and `keep: best`."""

    train: Feed
    held_out: Feed
    watched: Feed


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one column: their number, the number of the unknown one, and how many from 0 are marks."""

    size: int
    unknown: int
    marks: int


def open_fold(setup: TrialSetup, number: int, count: int, steered: bool, device: torch.device) -> tuple[Feeds, Spec]:
    """Return the examples of fold `number` of `count`, and the facts about those that are trained on.

    steered: whether scores decide when training stops or which weights it returns. They are then taken on the
    validation split. Without one, a share 1 / `count` of the fold's own training rows is set aside for them.
    """
    feed = train_feed(setup.prepared, setup.augmented)
    store = Store(setup.prepared)
    rows, held_out = split_folds(feed, np.arange(len(feed)), count, setup.seed)[number]
    watched, split = held_out, feed.split
    if steered and "validation" in store.manifest["splits"]:
        split = store.split("validation")
        watched = np.arange(len(split))
    elif steered:
        rows, watched = split_folds(feed, rows, count, setup.seed)[-1]
    spec = read_spec(setup.prepared, setup.augmented)
    spec = replace(spec, statistics=compute_statistics(Feed(feed.split, rows)))
    tables = unknown_tables(Feed(feed.split, rows), spec)
    train = Feed(feed.split, rows, device)
    scored = Feed(MappedSplit(feed.split.paths, tables), held_out, device)
    if watched is held_out:
        return Feeds(train, scored, scored), spec
    return Feeds(train, scored, Feed(MappedSplit(split.paths, tables), watched, device)), spec


def split_folds(examples: Feed, rows: np.ndarray, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (rows to train on, held-out rows) for each of `count` folds of the rows numbered `rows`.

    Folds are stratified by the label; without a label they are contiguous.
    """
    if "label" in examples.split.columns:
        folds = stratified_folds(examples.split.take(rows, ["label"])["label"], count, seed)
    else:
        folds = contiguous_folds(len(rows), count)
    return [(rows[train], rows[held_out]) for train, held_out in folds]


def compute_statistics(examples: Feed) -> dict[str, Any]:
    """Return the number of examples, moments of pictures and other numbers, and the counts of labels."""
    statistics: dict[str, Any] = {"count": len(examples)}
    if "image" in examples.split.columns:
        statistics |= compute_moments(examples.split, 0, 1, examples.rows).finish()
    return statistics | measure_columns(examples.split, examples.rows)


def unknown_tables(examples: Feed, spec: Spec) -> dict[str, np.ndarray]:
    """Return {column: its tokens' numbers [V]}, in which tokens that the examples lack have the unknown one's number.

    The vocabulary keeps its size and order. Columns without a vocabulary are left out.
    """
    tables = {}
    for name, vocabulary in find_vocabularies(spec).items():
        occurs = np.zeros(vocabulary.size, dtype=bool)
        occurs[: vocabulary.marks] = True
        for start in range(0, len(examples), BLOCK):
            occurs[examples.split.take(examples.rows[start : start + BLOCK], [name])[name]] = True
        tables[name] = np.where(occurs, np.arange(vocabulary.size), vocabulary.unknown).astype(np.int32)
    return tables


def find_vocabularies(spec: Spec) -> dict[str, Vocabulary]:
    """Return {column: vocabulary} for the columns of `data.text.Text`, `data.parallel.Parallel` and `TextTable`."""
    if "token" in spec.columns and spec.classes[:1] == (UNKNOWN,):
        return {"token": Vocabulary(len(spec.classes), unknown=0, marks=1)}
    if {"token", "label"} <= spec.columns.keys() and "token" in spec.tokenizers:
        return {"token": Vocabulary(count_tokens(spec.tokenizers["token"]), unknown=UNK, marks=UNK + 1)}
    if {"source", "target"} <= spec.columns.keys() and spec.classes[:1] == SPECIAL[:1]:
        sizes = map(len, split_vocabularies(spec.classes))
        return {
            name: Vocabulary(size, unknown=UNK, marks=len(SPECIAL))
            for name, size in zip(("source", "target"), sizes, strict=True)
        }
    return {}
