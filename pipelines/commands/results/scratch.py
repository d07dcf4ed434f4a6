"""The other arm of fine-tuning: the same network without its pretrained weights, for as many steps."""

from __future__ import annotations

from typing import Any

from components.recipes import recipe
from components.recipes.signature import read_signature

FULL_RATE = {"body_rate": 1.0, "layer_decay": 1.0, "frozen": 0}  # of every layer, since none has learnt anything


def without_pretraining(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the recipe of the same fit from scratch; None where nothing is pretrained, or where it has no such arm."""
    task = content["task"]
    arguments = read_signature(task["use"])
    if not task.get("start") or "random" not in arguments or task.get("random"):
        return None
    rates = {name: value for name, value in FULL_RATE.items() if name in arguments}
    return recipe.overlay(content, {f"task.{name}": value for name, value in {"random": True, **rates}.items()})
