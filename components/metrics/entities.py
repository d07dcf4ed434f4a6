"""Score named entities as whole spans, as seqeval and the CoNLL tasks do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def find_entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return the entities (type, first word, last word) of BIO tags; an I- that continues nothing begins an entity."""
    entities = set()
    start, kind = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            entities.add((kind, start, position - 1))
            kind = ""
        if prefix != "O" and not kind:
            start, kind = position, name
    return entities


def entity_scores(predicted: Iterable[Sequence[str]], truth: Iterable[Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 over the entities of all sentences; 0 where there is nothing to divide by."""
    correct = guessed = actual = 0
    for predicted_tags, true_tags in zip(predicted, truth, strict=True):
        first, second = find_entities(predicted_tags), find_entities(true_tags)
        correct += len(first & second)
        guessed += len(first)
        actual += len(second)
    return {
        "precision": correct / guessed if guessed else 0.0,
        "recall": correct / actual if actual else 0.0,
        "f1": 2 * correct / (guessed + actual) if guessed + actual else 0.0,
    }
