"""All that can be known to be wrong with the flagship's params before anything starts: one line, exit code 2."""

from __future__ import annotations

from typing import Any

from components import recipe, tuning
from components.refusal import Refusal
from pipelines import finetune, pretrain

SECTIONS = ("name", "seed", "data", "augment", "model", "pretrain", "tune", "finetune", "evaluate")


def check_flagship(params: dict[str, Any], where: str = "params.yaml") -> None:
    recipe.check_sections(params, dict.fromkeys(SECTIONS, True), where)
    recipe.check_values(params, {"seed": "Natural"}, where)
    recipe.check_sections(params["data"], {"source": True, "target": True}, f"{where}: data")
    for role, section in params["data"].items():
        recipe.check_use(section, f"data.{role}")
    recipe.check_sections(params["augment"], {"copies": True, "transforms": True}, f"{where}: augment")
    recipe.check_values(params["augment"], {"copies": "Natural"}, "augment")
    for index, section in enumerate(params["augment"]["transforms"]):
        recipe.check_use(section, f"augment.transforms[{index}]")
    recipe.check_sections(params["pretrain"], {"task": True, "fit": True}, f"{where}: pretrain")
    recipe.check_sections(params["finetune"], {"task": True, "fit": True, "seeds": True}, f"{where}: finetune")
    recipe.check_values(params["finetune"], {"seeds": "Count"}, "finetune")
    recipe.check_use(params["model"], "model")
    check_fit(pretrain.section_of(params), "pretrain.")
    arm = finetune.section_of(params, "finetuned")
    check_fit(arm, "finetune.")
    check_tune(params["tune"], arm)
    recipe.check_sections(params["evaluate"], {"level": True, "draws": True, "mistakes": True}, f"{where}: evaluate")
    recipe.check_values(params["evaluate"], {"level": "Open", "draws": "Count", "mistakes": "Natural"}, "evaluate")


def check_recipe(given: dict[str, Any], where: str) -> None:
    """A recipe of a family: {data, task, fit} and, if need be, its seed."""
    recipe.check_sections(given, {"data": True, "task": True, "fit": True, "seed": False}, where)
    recipe.check_values(given, {"seed": "Natural"}, where)
    recipe.check_use(given["data"], f"{where}: data")
    check_fit(given, f"{where}: ")


def check_fit(section: dict[str, Any], prefix: str) -> None:
    """A {task, fit} section: signatures, and values that can't go together."""
    recipe.check_use(section["task"], f"{prefix}task")
    recipe.check("engine.fit", section["fit"], f"{prefix}fit", keywords_only=True)
    _check_batch(section["fit"].get("batch", 128), section["fit"], f"{prefix}fit.batch")


def check_tune(tune: dict[str, Any], section: dict[str, Any]) -> None:
    recipe.check_sections(tune, {"folds": True, "search": True}, "tune")
    recipe.check_values(tune, {"folds": "Count"}, "tune")
    if tune["folds"] < 2:
        raise Refusal("tune.folds: must be at least 2: one fold holds nothing out")
    recipe.check("tuning.search", tune["search"], "tune.search", keywords_only=True)
    space = tune["search"]["space"]
    tuning.check_space(space, recipe.flatten(section), "tune.search.space")
    given = space.get("fit.batch", {})
    for batch in given.get("choices", [given["low"]] if "low" in given else []):
        _check_batch(batch, section["fit"], "tune.search.space.fit.batch")


def _check_batch(batch: int, fit: dict[str, Any], where: str) -> None:
    shards = fit.get("shards", 1)
    if batch < shards:
        raise Refusal(f"{where}: {batch} is smaller than fit.shards: {shards}; each shard needs an example")
