"""Break a search space into the parameters that a sampler knows, and put their values together again.

A choice may be a whole section, whose arguments may have entries of their own:

    task.optimizer: {choices: [{use: optimizers.sgd, lr: {low: 0.01, high: 0.5, log: true}}, {use: optimizers.adam}]}

has the parameters `task.optimizer` ("sgd" or "adam") and `task.optimizer.sgd.lr`; a trial with adam lacks the latter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

Choose = Callable[[str, dict[str, Any]], Any]  # (name of a parameter, its entry) -> value
NUMBERS = (int, float)


def is_entry(value: Any) -> bool:
    """Return whether a value stands for several ones to try: {low, high, log} or {choices: [...]}."""
    if not isinstance(value, dict):
        return False
    return set(value) == {"choices"} or {"low", "high"} <= set(value) <= {"low", "high", "log"}


def has_integer_bounds(entry: dict[str, Any]) -> bool:
    """Return whether only whole numbers are tried: both bounds are written as such (4, not 4.0)."""
    return isinstance(entry["low"], int) and isinstance(entry["high"], int)


def has_sections(entry: dict[str, Any]) -> bool:
    """Return whether a choice of the entry is a section or a list, which a sampler knows by a label only."""
    return any(isinstance(choice, dict | list) for choice in entry.get("choices", []))


def label_choices(choices: list[Any]) -> list[str]:
    """Return a label for each choice: the last part of a section's `use`, with a number where it is not unique."""
    names = [_name_choice(choice) for choice in choices]
    counts: Counter[str] = Counter()
    labels = []
    for name in names:
        counts[name] += 1
        labels.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
    return labels


def _name_choice(choice: Any) -> str:
    if isinstance(choice, dict):
        return str(choice.get("use", "section")).rpartition(".")[2]
    if isinstance(choice, list):
        return "+".join(map(_name_choice, choice)) or "nothing"
    return str(choice)


def compose(name: str, value: Any, choose: Choose) -> Any:
    """Return `value` with each entry in it replaced by what `choose` returns for it; name: of the value."""
    if is_entry(value):
        if not has_sections(value):
            return choose(name, value)
        labels = label_choices(value["choices"])
        label = choose(name, {"choices": labels})
        return compose(f"{name}.{label}", value["choices"][labels.index(label)], choose)
    if isinstance(value, dict):
        return {key: compose(f"{name}.{key}", item, choose) for key, item in value.items()}
    if isinstance(value, list):
        return [compose(f"{name}.{index}", item, choose) for index, item in enumerate(value)]
    return value


def decompose(name: str, pattern: Any, value: Any) -> dict[str, Any] | None:
    """Return {parameter: its value} with which `compose` makes `value` of `pattern`, or None if none does."""
    if is_entry(pattern):
        return _decompose_entry(name, pattern, value)
    if isinstance(pattern, dict) and isinstance(value, dict) and pattern.keys() == value.keys():
        parts = [decompose(f"{name}.{key}", item, value[key]) for key, item in pattern.items()]
    elif isinstance(pattern, list) and isinstance(value, list) and len(pattern) == len(value):
        items = enumerate(zip(pattern, value, strict=True))
        parts = [decompose(f"{name}.{index}", item, other) for index, (item, other) in items]
    else:
        return {} if pattern == value else None
    merged: dict[str, Any] = {}
    for part in parts:
        if part is None:
            return None
        merged |= part
    return merged


def _decompose_entry(name: str, entry: dict[str, Any], value: Any) -> dict[str, Any] | None:
    if "low" in entry:
        is_number = isinstance(value, int if has_integer_bounds(entry) else NUMBERS) and not isinstance(value, bool)
        return {name: value} if is_number and entry["low"] <= value <= entry["high"] else None
    if not has_sections(entry):
        return {name: value} if value in entry["choices"] else None
    for label, choice in zip(label_choices(entry["choices"]), entry["choices"], strict=True):
        part = decompose(f"{name}.{label}", choice, value)
        if part is not None:
            return {name: label} | part
    return None


def list_parameters(space: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {name: entry} of all parameters of a space, those of all sections included."""
    parameters: dict[str, dict[str, Any]] = {}

    def visit(name: str, value: Any) -> None:
        if is_entry(value) and not has_sections(value):
            parameters[name] = value
        elif is_entry(value):
            labels = label_choices(value["choices"])
            parameters[name] = {"choices": labels}
            for label, choice in zip(labels, value["choices"], strict=True):
                visit(f"{name}.{label}", choice)
        elif isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                visit(f"{name}.{key}", item)

    for key, entry in space.items():
        visit(key, entry)
    return parameters


def expand(value: Any) -> list[Any]:
    """Return every value that `value` stands for if its entries are choices: all combinations, the last fastest."""
    if is_entry(value):
        return [variant for choice in value["choices"] for variant in expand(choice)]
    if isinstance(value, dict):
        return [dict(zip(value, variant, strict=True)) for variant in product(*map(expand, value.values()))]
    if isinstance(value, list):
        return [list(variant) for variant in product(*map(expand, value))]
    return [value]


def sample_ends(value: Any) -> list[Any]:
    """Return few values among which each choice, and both ends of each interval, occur at least once."""
    if is_entry(value):
        return (
            [value["low"], value["high"]] if "low" in value else [e for c in value["choices"] for e in sample_ends(c)]
        )
    if not isinstance(value, dict | list):
        return [value]
    items = list(map(sample_ends, value.values() if isinstance(value, dict) else value))
    rows = [[ends[row % len(ends)] for ends in items] for row in range(max(map(len, items), default=1))]
    return [dict(zip(value, row, strict=True)) if isinstance(value, dict) else row for row in rows]
