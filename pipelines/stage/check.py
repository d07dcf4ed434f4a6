"""Check params.yaml and recipes before anything starts: every fault raises a Refusal of one line (exit code 2)."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.files import read_object
from components.recipes import recipe
from components.recipes.signature import class_constant, is_use, read_signature
from components.search.parameters import sample_ends
from components.search.space import check_space, check_start
from components.storage.dataset import list_own_files
from components.storage.section import STORE, build_dataset, read_constructed, store_address, without_store
from components.training.options import check_options, is_steered
from components.verdicts.alerts import Alerts
from components.workspace import RAW
from pipelines import flagship
from pipelines.stage.bill import check_prices
from pipelines.stage.starting_points import read_starting_points

SECTIONS = ("name", "seed", "data", "augment", "model", "pretrain", "tune", "finetune", "evaluate")
# Arguments that a task passes to its parts, and what to do instead of setting them.
SET_BY_TASK = dict.fromkeys(
    (
        *("model.channels", "model.size", "model.classes", "model.outputs", "model.vocabulary", "model.length"),
        *("model.sources", "model.targets", "model.columns", "model.horizon", "features.channels"),
        *(f"{part}.{name}" for part in ("generator", "discriminator") for name in ("shape", "classes")),
    ),
    "the data decide it",
) | {"generator.latent": "set task.latent"}
# Files of a BERT with its sizes, and the keys that lead to them; arguments that these limit.
START_SIZES = (("model.json", ("task", "model")), ("config.json", ()))
START_LIMITS = (
    ("length", ("positions", "max_position_embeddings"), "positions"),
    ("frozen", ("layers", "num_hidden_layers"), "layers"),
)
RETRAIN_CALLABLES = {"gate": "verdicts.gate.Gate", "data": "verdicts.drift.Limits", "alerts": "verdicts.alerts.Alerts"}


# ------------------------------------------------------------------------------------------------ the flagship


def check_flagship(params: dict[str, Any], where: str = "params.yaml") -> None:
    """Check all sections of the flagship's params."""
    recipe.check_sections(params, dict.fromkeys(SECTIONS, True) | {"retrain": False, "prices": False}, where)
    check_prices(params.get("prices", {}), f"{where}: prices")
    recipe.check_values(params, {"seed": "Seed"}, where)
    check_name(params["name"], where)
    _check_roles(params["data"], where)
    _check_augment(params["augment"], where)
    recipe.check_sections(params["pretrain"], {"task": True, "fit": True}, f"{where}: pretrain")
    recipe.check_sections(params["finetune"], {"task": True, "fit": True, "seeds": True}, f"{where}: finetune")
    recipe.check_values(params["finetune"], {"seeds": "Count"}, "finetune")
    recipe.check_use(params["model"], "model", "Module")
    for trainer in ("pretrain", "finetune"):
        recipe.check_use(params[trainer]["task"], f"{trainer}.task", "Task")
    pretrain = flagship.pretrain_section(params)
    check_fit(pretrain, "pretrain.")
    arm = flagship.arm_section(params, "finetuned")
    check_fit(arm, "finetune.")
    check_tune(params["tune"], arm)
    if lacks_validation(params["data"]["source"]):
        check_unwatched(pretrain["fit"], {}, "pretrain.")
    if lacks_validation(params["data"]["target"]):
        check_unwatched(arm["fit"], params["tune"]["search"]["space"], "finetune.")
    recipe.check_sections(params["evaluate"], {"level": True, "draws": True, "mistakes": True}, f"{where}: evaluate")
    recipe.check_values(params["evaluate"], {"level": "Open", "draws": "Count", "mistakes": "Natural"}, "evaluate")
    check_retrain(params.get("retrain", {}), where)


def check_name(name: Any, where: str) -> None:
    """Check the name of the experiment and the registered model; MLflow would refuse it only after all training."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise Refusal(f"{where}.name: must be a text of letters, digits and _ . -, not {name!r}; rename it")


def _check_roles(data: dict[str, Any], where: str) -> None:
    """Check both data sets: one model reads both, and the user's own files lie where DVC notices that they change."""
    recipe.check_sections(data, dict.fromkeys(flagship.ROLES, True), f"{where}: data")
    shapes = {}
    for role, section in data.items():
        dataset = check_data(section, f"data.{role}")
        for path in list_own_files(dataset):
            if not path.resolve().is_relative_to(RAW.resolve()):
                raise Refusal(
                    f"data.{role}: {path} lies outside {RAW}, where changes are noticed; put it there, not a link"
                )
        columns = dataset.columns
        if not {"image", "label"} <= columns.keys():
            raise Refusal(
                f"data.{role}: has columns {', '.join(columns)}, but the flagship classifies pictures (image, label);"
                " use a recipe of its own instead (trainyard inspect)"
            )
        shapes[role] = columns["image"].shape
    source, target = (shapes[role] for role in flagship.ROLES)
    if source != target:
        raise Refusal(
            f"data.target: has pictures of {_shape_text(target)}, but data.source {_shape_text(source)}, and one model"
            " reads both; give both the same size and colour"
        )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    """Return height x width x channels as a text."""
    return f"{shape[0]} x {shape[1]} pixels and {shape[2]} channel{'s' if shape[2] != 1 else ''}"


def _check_augment(section: dict[str, Any], where: str) -> None:
    recipe.check_sections(section, {"copies": True, "transforms": True}, f"{where}: augment")
    recipe.check_values(section, {"copies": "Natural"}, "augment")
    if not isinstance(section["transforms"], list):
        raise Refusal("augment.transforms: must be a list of sections with 'use'")
    for index, transform in enumerate(section["transforms"]):
        place = f"augment.transforms[{index}]"
        recipe.check_use(transform, place, "Transform")
        if transform["use"].startswith("augment.mix."):
            raise Refusal(f"{place}: {transform['use']} mixes labels, which copies can't keep; use task.mix")


def check_retrain(section: dict[str, Any], where: str) -> None:
    """Check the optional sections of the gate, the data checks and the alerts: the arguments of one callable each."""
    recipe.check_sections(section, dict.fromkeys(RETRAIN_CALLABLES, False), f"{where}: retrain")
    for name, path in RETRAIN_CALLABLES.items():
        if name in section:
            recipe.check_arguments(path, section[name], f"retrain.{name}")
    try:
        Alerts(**section.get("alerts", {}))
    except Refusal as refusal:
        raise Refusal(f"retrain.alerts.{refusal}") from None


# ------------------------------------------------------------------------------------------------ a recipe


def check_recipe(content: dict[str, Any], where: str) -> None:
    """Check a recipe of a family: {data, task, fit}, and optionally {tune, seed}."""
    sections = {"seed": False, "data": True, "task": True, "fit": True, "tune": False}
    recipe.check_sections(content, sections, where)
    recipe.check_values(content, {"seed": "Seed"}, where)
    dataset = check_data(content["data"], f"{where}: data")
    section = {"task": content["task"], "fit": content["fit"]}
    check_fit(section, f"{where}: ")
    check_targets(dataset, content["task"]["use"], f"{where}: ")
    if "tune" in content:
        check_tune(content["tune"], section, f"{where}: tune", ("folds", "seeds", "epochs"))
    if lacks_validation(content["data"]):
        check_unwatched(content["fit"], content.get("tune", {}).get("search", {}).get("space", {}), f"{where}: ")
        check_rungs(content.get("tune", {}), f"{where}: ")


def check_data(section: Any, where: str) -> Any:
    """Check the section of a data set and return the data set, whose constructor checks its values, too.

    Building a data set reads no files.
    """
    recipe.check_use(section, where, "Dataset", complete=True, owned=(STORE,))
    try:
        store_address(section)
        return build_dataset(section)
    except Refusal as refusal:
        raise Refusal(f"{where}.{refusal}") from None


def check_targets(dataset: Any, task: str, prefix: str) -> None:
    """Refuse data without a column that the task scores, where the source of both tells it without reading data."""
    columns = read_constructed(dataset, "columns")
    for name in class_constant(task, "targets", ()) if columns is not None else ():
        if name not in columns:
            kind = task.rpartition(".")[2]
            raise Refusal(
                f"{prefix}task: {kind} needs a column '{name}', but the data have {', '.join(columns)}; change data"
            )


def check_fit(section: dict[str, Any], prefix: str) -> None:
    """Check a section {task, fit}: its signatures, and values that exclude each other."""
    recipe.check_use(section["task"], f"{prefix}task", "Task", complete=True)
    recipe.check_arguments("training.engine.fit", section["fit"], f"{prefix}fit", complete=True)
    recipe.check_values(section["fit"], {"seed": "Seed"}, f"{prefix}fit")
    for key, instead in SET_BY_TASK.items():
        part, name = key.split(".")
        factory = section["task"].get(part) or {}
        if name in factory:
            raise Refusal(f"{prefix}task.{key}: {factory[name]!r} can't be set in a recipe; {instead}")
    check_room(section["task"], prefix)
    fit = recipe.fill_defaults("training.engine.fit", section["fit"])
    check_options(fit["batch"], fit["shards"], fit["noise_scale"], prefix)
    task = section["task"]["use"]
    if fit["batch"] != "all" and class_constant(task, "full_batch", False):
        raise Refusal(
            f"{prefix}fit.batch: {fit['batch']} may leave out training rows, and each step of {task} needs all of them;"
            " set it to all"
        )
    if fit["order"] == "grouped" and not class_constant(task, "lengths", ()):
        raise Refusal(
            f"{prefix}fit.order: grouped needs examples of different lengths, which {task} does not have;"
            " set it to shuffled"
        )


def check_room(task: dict[str, Any], prefix: str) -> None:
    """Refuse what the BERT in the folder `task.start` has no room for; a folder that is not there yet may have any."""
    folder = Path(str(task.get("start")))
    sizes: dict[str, Any] = {}
    for name, inner in START_SIZES:
        if (folder / name).is_file():
            try:
                sizes = read_object(folder / name)
            except ValueError as error:
                raise Refusal(f"{prefix}task.start: {folder / name} is damaged ({error}); write it again") from None
            for key in inner:
                sizes = sizes.get(key) or {}
            break
    for argument, keys, things in START_LIMITS:
        limit = next((sizes[key] for key in keys if isinstance(sizes.get(key), int)), None)
        if limit is not None and isinstance(task.get(argument), int) and task[argument] > limit:
            raise Refusal(
                f"{prefix}task.{argument}: {task[argument]} is more than the {limit} {things} of {folder}; lower it"
            )


def check_tune(
    tune: dict[str, Any], section: dict[str, Any], where: str = "tune", kinds: tuple[str, ...] = ("folds",)
) -> None:
    """Check a search: its own arguments, and that every value it may try is valid in `section`.

    kinds: the keys of which `tune` must have one; it says what the rungs of a trial are.
    """
    recipe.check_sections(tune, dict.fromkeys((*kinds, "show", "columns"), False) | {"search": True}, where)
    recipe.check_values(tune, {"show": "str", "columns": "list[str]"}, where)
    present = [kind for kind in kinds if kind in tune]
    if len(present) != 1:
        raise Refusal(f"{where}: needs {' or '.join(kinds)}, one of them; it has {' and '.join(present) or 'none'}")
    kind = present[0]
    recipe.check_values(tune, {kind: "Count"}, where)
    if kind == "folds" and tune["folds"] < 2:
        raise Refusal(f"{where}.folds: must be at least 2: with one fold nothing is held out")
    recipe.check_arguments("search.ray_tune.search", tune["search"], f"{where}.search", complete=True)
    recipe.check_values(tune["search"], {"seed": "Seed"}, f"{where}.search")
    space = tune["search"]["space"]
    if kind == "epochs" and "fit.epochs" in space:
        raise Refusal(f"{where}.search.space: {where}.epochs sets fit.epochs; search it by folds or seeds")
    sampler = tune["search"].get("sampler", "tpe")
    check_space(space, recipe.flatten(section), f"{where}.search.space", sampler)
    search = recipe.fill_defaults("search.ray_tune.search", read_starting_points(tune["search"], f"{where}.search"))
    if search["start"] and sampler == "grid":
        raise Refusal(f"{where}.search.start: a grid tries every combination; leave it out")
    check_start(search["start"] or [], space, search["samples"], f"{where}.search.start")
    for key, values in space.items():
        for value in sample_ends(values):
            try:
                check_fit(recipe.overlay(section, {key: value}), "")
            except Refusal as refusal:
                raise Refusal(f"{where}.search.space: {refusal}") from None


# ------------------------------------------------------------------------------------------------ the splits


def lacks_validation(section: dict[str, Any]) -> bool:
    """Return whether the data set of a checked section surely has no validation split; no data are read.

    Its argument `validation` is then 0. Other data sets are checked when they are prepared.
    """
    if is_use(section.get("of")):
        return lacks_validation(section["of"])
    defaults = {name: argument.default for name, argument in read_signature(section["use"]).items()}
    shares = {
        name: section.get(name, ast.literal_eval(defaults.get(name) or "None")) for name in ("validation", "test")
    }
    # A wrapped source of text or pairs is not a data set itself.
    dataset = recipe.build(without_store(section), object)
    has_validation = "validation" in getattr(dataset, "split_folders", {}) or getattr(dataset, "has_validation", False)
    # Where there is nothing but training examples, these are watched.
    return shares["validation"] == 0 and shares["test"] != 0 and not has_validation


def check_unwatched(fit: dict[str, Any], space: dict[str, Any], prefix: str) -> None:
    """Refuse a section `fit`, or one with values of the search space, that needs a validation split: there is none."""
    for key in ("patience", "keep"):
        entry = space.get(f"fit.{key}", {"choices": [fit.get(key)]})
        values = entry.get("choices") or (entry["low"], entry["high"])
        if any(is_steered({key: value}) for value in values):
            raise Refusal(
                f"{prefix}fit.{key}: needs a validation split, also for the fit after a search, and the data have none;"
                f" give the data one or drop fit.{key}"
            )


def check_rungs(tune: dict[str, Any], prefix: str) -> None:
    """Refuse a section `tune` whose rungs are scored on the validation split: there is none."""
    kind = next((kind for kind in ("seeds", "epochs") if kind in tune), None)
    if kind is not None:
        raise Refusal(
            f"{prefix}tune.{kind}: the data have no validation split to score on; give the data one, or tune.folds"
        )
