"""All that can be known to be wrong with params or a recipe before anything starts: one line, exit code 2."""

from __future__ import annotations

import re
from typing import Any

from components.errors import Refusal
from components.recipes import recipe
from components.search.space import check_space
from components.storage.dataset import list_own_files
from components.verdicts.alerts import Alerts
from components.workspace import RAW
from pipelines import flagship

SECTIONS = ("name", "seed", "data", "augment", "model", "pretrain", "tune", "finetune", "evaluate")
SET_BY_TASK = dict.fromkeys(  # what a task gives its parts itself, and what to do instead
    ("model.channels", "model.size", "model.classes", "generator.shape", "discriminator.shape", "features.channels"),
    "the data decide it",
) | {"generator.latent": "set task.latent"}
RETRAIN_CALLABLES = {"gate": "verdicts.gate.Gate", "data": "verdicts.drift.Limits", "alerts": "verdicts.alerts.Alerts"}


def check_flagship(params: dict[str, Any], where: str = "params.yaml") -> None:
    recipe.check_sections(params, dict.fromkeys(SECTIONS, True) | {"retrain": False}, where)
    recipe.check_values(params, {"seed": "Seed"}, where)
    check_name(params["name"], where)
    recipe.check_sections(params["data"], {"source": True, "target": True}, f"{where}: data")
    for role, section in params["data"].items():
        for path in list_own_files(check_data(section, f"data.{role}")):
            if not path.resolve().is_relative_to(RAW.resolve()):
                raise Refusal(
                    f"data.{role}: {path} lies outside {RAW}, where changes are seen; put it there, not a link"
                )
    recipe.check_sections(params["augment"], {"copies": True, "transforms": True}, f"{where}: augment")
    recipe.check_values(params["augment"], {"copies": "Natural"}, "augment")
    if not isinstance(params["augment"]["transforms"], list):
        raise Refusal("augment.transforms: must be a list of sections with 'use'")
    for index, section in enumerate(params["augment"]["transforms"]):
        recipe.check_use(section, f"augment.transforms[{index}]")
        if section["use"].startswith("augment.mix."):
            raise Refusal(
                f"augment.transforms[{index}]: {section['use']} mixes labels, which copies can't keep; use task.mix"
            )
    recipe.check_sections(params["pretrain"], {"task": True, "fit": True}, f"{where}: pretrain")
    recipe.check_sections(params["finetune"], {"task": True, "fit": True, "seeds": True}, f"{where}: finetune")
    recipe.check_values(params["finetune"], {"seeds": "Count"}, "finetune")
    recipe.check_use(params["model"], "model")
    for verb in ("pretrain", "finetune"):
        recipe.check_use(params[verb]["task"], f"{verb}.task")
    check_fit(flagship.pretrain_section(params), "pretrain.")
    arm = flagship.arm_section(params, "finetuned")
    check_fit(arm, "finetune.")
    check_tune(params["tune"], arm)
    recipe.check_sections(params["evaluate"], {"level": True, "draws": True, "mistakes": True}, f"{where}: evaluate")
    recipe.check_values(params["evaluate"], {"level": "Open", "draws": "Count", "mistakes": "Natural"}, "evaluate")
    check_retrain(params.get("retrain", {}), where)


def check_name(name: Any, where: str) -> None:
    """Of the experiment and the registered model: MLflow takes no other, and would say so after all training."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise Refusal(f"{where}.name: must be a text of letters, digits and _ . -, not {name!r}; rename it")


def check_retrain(section: dict[str, Any], where: str) -> None:
    """The gate, the data checks and the alerts: each a section of one callable's arguments, all optional."""
    recipe.check_sections(section, dict.fromkeys(RETRAIN_CALLABLES, False), f"{where}: retrain")
    for name, path in RETRAIN_CALLABLES.items():
        if name in section:
            recipe.check_arguments(path, section[name], f"retrain.{name}")
    try:
        Alerts(**section.get("alerts", {}))
    except Refusal as refusal:
        raise Refusal(f"retrain.alerts.{refusal}") from None


def check_recipe(content: dict[str, Any], where: str) -> None:
    """A recipe of a family: {data, task, fit} and, if need be, {tune, seed}."""
    known = {"seed": False, "data": True, "task": True, "fit": True, "tune": False}
    recipe.check_sections(content, known, where)
    recipe.check_values(content, {"seed": "Seed"}, where)
    check_data(content["data"], f"{where}: data")
    section = {"task": content["task"], "fit": content["fit"]}
    check_fit(section, f"{where}: ")
    if "tune" in content:
        check_tune(content["tune"], section, f"{where}: tune", ("folds", "seeds", "epochs"))


def check_data(section: Any, where: str) -> Any:
    """The data set of the section; building it reads nothing, and its own checks speak, too."""
    recipe.check_use(section, where, whole=True)
    try:
        return recipe.build(section)
    except Refusal as refusal:
        raise Refusal(f"{where}.{refusal}") from None


def check_fit(section: dict[str, Any], prefix: str) -> None:
    """A {task, fit} section: signatures, and values that can't go together."""
    recipe.check_use(section["task"], f"{prefix}task", whole=True)
    recipe.check_arguments("training.engine.fit", section["fit"], f"{prefix}fit", whole=True)
    recipe.check_values(section["fit"], {"seed": "Seed"}, f"{prefix}fit")
    for key, instead in SET_BY_TASK.items():
        part, name = key.split(".")
        if name in (factory := section["task"].get(part, {})):
            raise Refusal(f"{prefix}task.{key}: {factory[name]!r} is not for a recipe to say; {instead}")
    fit = recipe.fill_defaults("training.engine.fit", section["fit"])
    batch, shards = fit["batch"], fit["shards"]
    if batch < shards:
        raise Refusal(f"{prefix}fit.batch: {batch} is smaller than fit.shards: {shards}; each shard needs an example")
    if fit["noise_scale"] and shards < 2:
        raise Refusal(f"{prefix}fit.noise_scale: compares the gradients of shards; set fit.shards to 2 or more")


def check_tune(
    tune: dict[str, Any], section: dict[str, Any], where: str = "tune", rungs: tuple[str, ...] = ("folds",)
) -> None:
    """The search's own arguments, and that whatever it may try would be a value for `section`.

    rungs: what a trial may be made of; the section names one of them.
    """
    recipe.check_sections(tune, dict.fromkeys(rungs, False) | {"search": True}, where)
    named = [kind for kind in rungs if kind in tune]
    if len(named) != 1:
        raise Refusal(f"{where}: needs {' or '.join(rungs)}, one of them; it has {' and '.join(named) or 'none'}")
    by = named[0]
    recipe.check_values(tune, {by: "Count"}, where)
    if by == "folds" and tune["folds"] < 2:
        raise Refusal(f"{where}.folds: must be at least 2: one fold holds nothing out")
    recipe.check_arguments("search.ray_tune.search", tune["search"], f"{where}.search", whole=True)
    recipe.check_values(tune["search"], {"seed": "Seed"}, f"{where}.search")
    space = tune["search"]["space"]
    if by == "epochs" and "fit.epochs" in space:
        raise Refusal(f"{where}.search.space: fit.epochs is what {where}.epochs says; search it by folds or seeds")
    sampler = tune["search"].get("sampler", "tpe")
    check_space(space, recipe.flatten(section), f"{where}.search.space", sampler)
    for key, given in space.items():
        for value in given.get("choices") or (given["low"], given["high"]):
            try:
                check_fit(recipe.overlay(section, {key: value}), "")
            except Refusal as refusal:
                raise Refusal(f"{where}.search.space: {refusal}") from None
