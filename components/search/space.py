"""The space of a search: which values of a recipe it may try; its check, and all combinations of a grid."""

from __future__ import annotations

import ast
import math
from itertools import product
from typing import Any

from ..errors import Refusal, suggest_name
from ..recipes import signature
from ..recipes.ranges import RANGES
from .parameters import decompose, expand, has_integer_bounds, is_entry

# Names in annotations of arguments that take fractions.
FRACTIONS = {"float", *(name for name, (types, _, _) in RANGES.items() if float in types)}


def check_space(space: Any, values: dict[str, Any], where: str = "tune.space", sampler: str = "tpe") -> None:
    """Refuse a space that is empty, names something that the recipe does not have, or holds an invalid entry.

    space: {dotted key: {low, high, log} or {choices: [...]}}; a choice may be a section with entries of its own.
    values: the flattened recipe {dotted key: value}.
    """
    if not isinstance(space, dict) or not space:
        raise Refusal(f"{where}: must map dotted recipe keys to {{low, high, log}} or {{choices: [...]}}")
    for key, entry in space.items():
        _check_key(key, values, where)
        owner, _, name = key.rpartition(".")
        path = "training.engine.fit" if owner == "fit" else values.get(f"{owner}.use")
        _check_entry(entry, f"{where}.{key}", sampler, path, name)


def check_start(start: list[Any], space: dict[str, Any], samples: int, where: str) -> None:
    """Refuse starting points that are not in the space, or more of them than trials."""
    if len(start) > samples:
        raise Refusal(f"{where}: has {len(start)} starting points, but there are only {samples} samples")
    for index, values in enumerate(start):
        if not isinstance(values, dict) or not values:
            raise Refusal(f"{where}[{index}]: must map keys of the space to values, or be the folder of a run")
        for key, value in values.items():
            if key not in space:
                raise Refusal(f"{where}[{index}]: '{key}' is not searched{suggest_name(key, space)}")
            if decompose(key, space[key], value) is None:
                raise Refusal(f"{where}[{index}]: {key} = {value} is outside the searched space; widen the space")


def grid_combinations(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every combination of the choices as {dotted key: value}; the last key changes fastest."""
    choices = product(*map(expand, space.values()))
    return [dict(zip(space, combination, strict=True)) for combination in choices]


def _check_key(key: str, values: dict[str, Any], where: str) -> None:
    if key not in values and not any(name.startswith(f"{key}.") for name in values):
        raise Refusal(f"{where}: the recipe has no value '{key}'{suggest_name(key, values)}")


def _check_entry(entry: Any, where: str, sampler: str, path: str | None, name: str) -> None:
    """Check the entry for the argument `name` of the callable at `path`, if it has one, and the entries inside it."""
    if isinstance(entry, dict) and set(entry) == {"choices"} and isinstance(entry["choices"], list):
        if not entry["choices"]:
            raise Refusal(f"{where}: needs {{low, high}} with an optional log: true, or {{choices: [...]}}")
        for choice in entry["choices"]:
            _check_section(choice, where, sampler)
    elif sampler == "grid":
        raise Refusal(f"{where}: a grid needs {{choices: [...]}}")
    else:
        _check_bounds(entry, where)
        if has_integer_bounds(entry) and _takes_fractions(path, name):
            low, high = (float(entry[end]) for end in ("low", "high"))
            raise Refusal(
                f"{where}: between whole bounds only whole numbers are tried, but this argument takes fractions; write"
                f" {{low: {low}, high: {high}}}, or {{choices: [...]}}"
            )


def _check_section(value: Any, where: str, sampler: str) -> None:
    """Check the entries inside a section or a list that is a choice."""
    if isinstance(value, list):
        for item in value:
            _check_section(item, where, sampler)
    if isinstance(value, dict):
        for name, item in value.items():
            if is_entry(item):
                _check_entry(item, f"{where}.{name}", sampler, value.get("use"), name)
            else:
                _check_section(item, f"{where}.{name}", sampler)


def _check_bounds(entry: Any, where: str) -> None:
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry) <= {"low", "high", "log"}:
        raise Refusal(f"{where}: needs {{low, high}} with an optional log: true, or {{choices: [...]}}")
    if not all(isinstance(entry[end], int | float) and math.isfinite(entry[end]) for end in ("low", "high")):
        raise Refusal(f"{where}: low and high must be finite numbers; it is {entry}")
    if not entry["low"] < entry["high"] or (entry.get("log") and entry["low"] <= 0):
        raise Refusal(f"{where}: low must be below high, and above 0 on a log scale; it is {entry}")


def _takes_fractions(path: str | None, name: str) -> bool:
    """Return whether the argument `name` of the callable at `path` is annotated as a number with fractions."""
    try:
        argument = signature.read_signature(path).get(name) if path else None
    except Refusal:
        return False  # the section is refused when it is checked as a whole
    if argument is None or argument.annotation is None:
        return False
    return any(isinstance(node, ast.Name) and node.id in FRACTIONS for node in ast.walk(argument.annotation))
