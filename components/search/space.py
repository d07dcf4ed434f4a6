"""The space of a search: which values of a recipe it may try; its check, and all combinations of a grid."""

from __future__ import annotations

import ast
import math
from itertools import product
from typing import Any

from ..errors import Refusal, suggest_name
from ..recipes import signature
from ..recipes.ranges import RANGES

# Names in annotations of arguments that take fractions.
FRACTIONS = {"float", *(name for name, (types, _, _) in RANGES.items() if float in types)}


def check_space(space: Any, values: dict[str, Any], where: str = "tune.space", sampler: str = "tpe") -> None:
    """Refuse a space that is empty, names something that the recipe does not have, or holds an invalid entry.

    space: {dotted key: {low, high, log} or {choices: [...]}}; values: the flattened recipe {dotted key: value}.
    """
    if not isinstance(space, dict) or not space:
        raise Refusal(f"{where}: must map dotted recipe keys to {{low, high, log}} or {{choices: [...]}}")
    for key, entry in space.items():
        _check_key(key, values, where)
        if _has_choices(entry):
            _check_choices(entry["choices"], f"{where}.{key}", sampler)
        elif sampler == "grid":
            raise Refusal(f"{where}.{key}: a grid needs {{choices: [...]}}")
        else:
            _check_bounds(entry, f"{where}.{key}")
            _check_integer_bounds(entry, key, values, f"{where}.{key}")


def grid_combinations(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every combination of the choices as {dotted key: value}; the last key changes fastest."""
    choices = product(*(entry["choices"] for entry in space.values()))
    return [dict(zip(space, combination, strict=True)) for combination in choices]


def has_integer_bounds(entry: dict[str, Any]) -> bool:
    """Return whether only whole numbers are tried: both bounds are written as such (4, not 4.0)."""
    return isinstance(entry["low"], int) and isinstance(entry["high"], int)


def _check_key(key: str, values: dict[str, Any], where: str) -> None:
    if key not in values and not any(name.startswith(f"{key}.") for name in values):
        raise Refusal(f"{where}: the recipe has no value '{key}'{suggest_name(key, values)}")


def _has_choices(entry: Any) -> bool:
    if not isinstance(entry, dict) or set(entry) != {"choices"}:
        return False
    return isinstance(entry["choices"], list) and bool(entry["choices"])


def _check_choices(choices: list[Any], where: str, sampler: str) -> None:
    if sampler != "grid" and any(isinstance(choice, dict | list) for choice in choices):
        raise Refusal(f"{where}: only search.sampler: grid can try whole sections")


def _check_bounds(entry: Any, where: str) -> None:
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry) <= {"low", "high", "log"}:
        raise Refusal(f"{where}: needs {{low, high}} with an optional log: true, or {{choices: [...]}}")
    if not all(isinstance(entry[end], int | float) and math.isfinite(entry[end]) for end in ("low", "high")):
        raise Refusal(f"{where}: low and high must be finite numbers; it is {entry}")
    if not entry["low"] < entry["high"] or (entry.get("log") and entry["low"] <= 0):
        raise Refusal(f"{where}: low must be below high, and above 0 on a log scale; it is {entry}")


def _check_integer_bounds(entry: dict[str, Any], key: str, values: dict[str, Any], where: str) -> None:
    if has_integer_bounds(entry) and _takes_fractions(key, values):
        low, high = (float(entry[end]) for end in ("low", "high"))
        raise Refusal(
            f"{where}: between whole bounds only whole numbers are tried, but this argument takes fractions; write"
            f" {{low: {low}, high: {high}}}, or {{choices: [...]}}"
        )


def _takes_fractions(key: str, values: dict[str, Any]) -> bool:
    """Return whether the argument that `key` names is annotated as a number with fractions."""
    owner, _, name = key.rpartition(".")
    path = "training.engine.fit" if owner == "fit" else values.get(f"{owner}.use")
    argument = signature.read_signature(path).get(name) if path else None
    if argument is None or argument.annotation is None:
        return False
    return any(isinstance(node, ast.Name) and node.id in FRACTIONS for node in ast.walk(argument.annotation))
