"""Checks of a recipe's `fit` section that need no data and no torch: a command line and the engine share them."""

from __future__ import annotations

from typing import Any, Literal

from ..errors import Refusal


def check_options(batch: int | Literal["all"], shards: int, noise_scale: bool, prefix: str = "") -> None:
    """Refuse options of `engine.fit` that cannot go together; `prefix` comes before their names."""
    if batch != "all" and batch < shards:
        raise Refusal(f"{prefix}fit.batch: {batch} is smaller than fit.shards: {shards}; each shard needs an example")
    if noise_scale and shards < 2:
        raise Refusal(f"{prefix}fit.noise_scale: compares the gradients of shards; set fit.shards to 2 or more")


def batch_size(batch: int | Literal["all"], rows: int) -> int:
    """Return the number of examples per step for a value of `fit.batch` and a number of training rows."""
    return rows if batch == "all" else batch


def is_steered(fit: dict[str, Any]) -> bool:
    """Return whether scores decide when training stops or which weights it returns."""
    return fit.get("patience") is not None or fit.get("keep") == "best"
