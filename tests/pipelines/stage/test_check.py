"""Check that bad params and recipes give one line with place, fault and remedy, exit code 2, and no files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import Refusal
from components.recipes import recipe
from pipelines.door import main
from pipelines.stage.check import check_flagship, check_room

ROOT = Path(__file__).parents[3]
PARAMS = recipe.overlay(recipe.load(ROOT / "params.yaml"), {"finetune.fit.shards": 2})
RECIPE = recipe.load(ROOT / "pipelines/vision/resnet.yaml")
MISSING = object()  # as a value: remove the key
TUNE = {"folds": 3, "search": {"samples": 2, "space": {"fit.batch": {"choices": [10, 20]}}}}


def change_value(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy with another value at `key`, whose parts are joined by / and may be indices of a list."""
    content = yaml.safe_load(yaml.safe_dump(content))
    *owners, last = [int(part) if part.isdigit() else part for part in key.split("/")]
    place: Any = content
    for owner in owners:
        place = place[owner]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return content


def run_refused(capsys: pytest.CaptureFixture, *command: str) -> str:
    """Run a command that must exit with 2 and write nothing; return its one line of output."""
    before = sorted(Path().rglob("*"))
    assert main(list(command)) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert sorted(Path().rglob("*")) == before
    return output.err


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


FLAGSHIP = [
    ("sead", 1, "unknown section 'sead' (did you mean 'seed'?)"),
    ("name", "a/b", "params.yaml.name: must be a text of letters, digits and _ . -, not 'a/b'; rename it"),
    ("name", "it's", 'params.yaml.name: must be a text of letters, digits and _ . -, not "it\'s"'),
    ("name", "", "params.yaml.name: must be a text"),
    ("name", None, "params.yaml.name: must be a text"),
    ("name", 3, "params.yaml.name: must be a text"),
    ("name", ["a"], "params.yaml.name: must be a text"),
    ("seed", -1, "params.yaml.seed: must be a whole number from 0 to 4294967295, not -1"),
    ("seed", 2**32, "params.yaml.seed: must be a whole number from 0 to 4294967295, not 4294967296"),
    ("seed", 2**64, "column 7: a number of more than 64 bits; fix the YAML there"),
    ("seed", MISSING, "section 'seed' is missing"),
    ("data/traget", {}, "unknown section 'traget' (did you mean 'target'?)"),
    ("data/source", MISSING, "data: section 'source' is missing"),
    ("data", 3, "data: must be a mapping with source, target"),
    ("data/target/label", 50, "data.target.label: data.digits.Digits has no such argument (did you mean 'labels'?)"),
    ("data/target/stor", "s3://a/b", "data.target.stor: data.digits.Digits has no such argument (did you mean 'store'"),
    ("data/target/store", "bucket", "data.target.store: 'bucket' is not an address; write s3://bucket/prefix, or"),
    ("data/target/store", "s3://key:secret@a/b", "data.target.store: keys and options do not belong into an address"),
    ("data/target/labels", 0, "data.target.labels: must be a whole number of at least 1, not 0"),
    ("data/target/labels", 5, "data.target.labels: 5 of 1797 digits can't be split; give 10 to 1796"),
    ("data/target/use", "data.digit.Digits", "no file components/data/digit.py (did you mean 'data.digits'?)"),
    ("augment/copies", 1.5, "augment.copies: must be a whole number of at least 0"),
    ("augment/transforms", {"use": "x"}, "augment.transforms: must be a list"),
    ("augment/transforms/0/degres", 3, "augment.transforms[0].degres"),
    ("augment/transforms/0", {"use": "augment.mix.MixUp"}, "transforms[0]: augment.mix.MixUp mixes labels, which"),
    ("model/use", "models.resnet.ResNte", "(did you mean 'ResNet'?)"),
    ("model/widths", [16, "a"], "model.widths: must be a list of one or more whole numbers of at least 1"),
    ("model/stem", "cifr", "model.stem: must be one of imagenet, cifar (did you mean 'cifar'?)"),
    ("model/classes", 7, "task.model.classes: 7 can't be set in a recipe; the data decide it"),
    ("pretrain/fit/epoch", 3, "pretrain.fit.epoch: training.engine.fit has no such argument (did you mean 'epochs'?)"),
    ("pretrain/fit/epochs", "ten", "pretrain.fit.epochs: must be a whole number of at least 1, not 'ten'"),
    ("pretrain/fit/epochs", True, "pretrain.fit.epochs: must be a whole number"),
    ("pretrain/fit/batch", 3, "pretrain.fit.batch: 3 is smaller than fit.shards: 4; each shard needs an example"),
    ("pretrain/fit/precision", "float16", "(did you mean 'bfloat16'?)"),
    ("pretrain/fit/schedule/warm_up", 0.1, "(did you mean 'warmup'?)"),
    ("pretrain/fit/schedule/warmup", 1.5, "pretrain.fit.schedule.warmup: must be a number from 0 to 1, not 1.5"),
    ("pretrain/fit", None, "pretrain.fit: must be a mapping"),
    ("pretrain/fit/seed", 2**32, "pretrain.fit.seed: must be a whole number from 0 to 4294967295"),
    ("pretrain/task", None, "pretrain.task: needs 'use: <file>.<Name>'"),
    ("pretrain/task/optimizer", {"lr": 0.1}, "pretrain.task.optimizer: must be a section with 'use: <file>.<Name>'"),
    ("pretrain/task/augment/0/use", MISSING, "pretrain.task.augment: must be a list, each item a section with 'use"),
    ("pretrain/task/mix", {"alpha": 1}, "pretrain.task.mix: must be a section with 'use: <file>.<Name>' or null"),
    ("finetune/task", None, "finetune.task: needs 'use: <file>.<Name>'"),
    ("pretrain/task/optimizer/lr", float("inf"), "pretrain.task.optimizer.lr: must be a number above 0, not inf"),
    ("pretrain/task/optimizer/lr", "fast", "pretrain.task.optimizer.lr: must be a number above 0, not 'fast'"),
    ("pretrain/task/augment/0/p", 1, "pretrain.task.augment[0].p"),
    ("pretrain/tasks", {}, "unknown section 'tasks' (did you mean 'task'?)"),
    ("finetune/seeds", 0, "finetune.seeds: must be a whole number of at least 1"),
    ("finetune/task/body_rate", -1, "finetune.task.body_rate: must be a number of at least 0"),
    ("tune/folds", 1, "tune.folds: must be at least 2"),
    ("tune/seeds", 5, "tune: unknown section 'seeds'"),
    ("tune/search/sample", 3, "tune.search.sample: search.ray_tune.search has no such argument (did you mean"),
    ("tune/search/seed", 2**32, "tune.search.seed: must be a whole number from 0 to 4294967295"),
    ("tune/search/space", MISSING, "tune.search: 'space' is missing"),
    ("tune/search/space", {"fit.bach": {"choices": [8]}}, "no value 'fit.bach' (did you mean 'fit.batch'?)"),
    ("tune/search/space", {"fit.batch": {"choices": [8, 1]}}, "fit.batch: 1 is smaller than fit.shards: 2"),
    ("tune/search/space", {"task.optimizer.lr": {"low": 0.0, "high": 1}}, "optimizer.lr: must be a number above 0"),
    ("tune/search/space", {"task.optimizer.lr": {"low": 2, "high": 1}}, "low must be below high"),
    ("retrain/alerts/url", "http://[half", "retrain.alerts.url: is not a valid web address"),
    ("retrain/alerts/command", [], "retrain.alerts.command: names no program"),
    ("evaluate/level", 1, "evaluate.level: must be a number between 0 and 1, not 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "message"), FLAGSHIP, ids=lambda value: value if isinstance(value, str) else ""
)
def test_wrong_params_are_refused_by_every_stage(key: str, value: Any, message: str, capsys) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(change_value(PARAMS, key, value)))
    for command in (["plan"], ["prepare"], ["evaluate"]):
        assert message in run_refused(capsys, *command)


RECIPES = [
    ("dta", {}, "recipe.yaml: unknown section 'dta' (did you mean 'data'?)"),
    ("task", MISSING, "recipe.yaml: section 'task' is missing"),
    ("data", {"size": 16}, "recipe.yaml: data: needs 'use: <file>.<Name>'"),
    ("data", {"use": "data.sine.Sine"}, "recipe.yaml: task: Classification needs a column 'label', but the data have"),
    ("data/labels", 2000, "recipe.yaml: data.labels: 2000 of 1797 digits can't be split"),
    ("data", {"use": "data.image_folder.ImageFolder"}, "recipe.yaml: data: 'folder' is missing"),
    (
        "data",
        {"use": "data.proposals.SelectiveSearch", "of": {"use": "data.image_folder.ImageFolder"}},
        "recipe.yaml: data.of: 'folder' is missing; data.image_folder.ImageFolder needs it",
    ),
    ("task/use", "tasks.classification.Clasification", "(did you mean 'Classification'?)"),
    ("task/model", MISSING, "recipe.yaml: task: 'model' is missing; tasks.classification"),
    ("task/model", "models.resnet.ResNet", "recipe.yaml: task.model: must be a section with 'use"),
    ("task/optimizer/momentum", 2, "recipe.yaml: task.optimizer.momentum: must be a number from 0 to 1, not 2"),
    ("task/augment", {"use": "augment.flip.RandomHorizontalFlip"}, "recipe.yaml: task.augment: must be a list of sec"),
    ("fit/batch", 1, "recipe.yaml: fit.batch: 1 is smaller than fit.shards: 2"),
    ("fit/shards", 1000, "recipe.yaml: fit.batch: 50 is smaller than fit.shards: 1000"),
    ("fit/ema", 1.5, "recipe.yaml: fit.ema: must be a number of at least 0 and below 1 or null, not 1.5"),
    ("tune", {**TUNE, "folds": "3"}, "recipe.yaml: tune.folds: must be a whole number of at least 1, not '3'"),
    ("tune", {"folds": 3}, "recipe.yaml: tune: section 'search' is missing"),
    ("tune", {"search": TUNE["search"]}, "recipe.yaml: tune: needs folds or seeds or epochs, one of them; it has none"),
    (
        "tune",
        {**TUNE, "seeds": 3},
        "recipe.yaml: tune: needs folds or seeds or epochs, one of them; it has folds and s",
    ),
    ("tune", {"epoch": 3, "search": TUNE["search"]}, "unknown section 'epoch' (did you mean 'epochs'?)"),
    ("tune", {"epochs": 0.5, "search": TUNE["search"]}, "recipe.yaml: tune.epochs: must be a whole number of at least"),
    ("tune", {"epochs": 3, "search": {"space": {"fit.epochs": {"low": 1, "high": 9}}}}, "tune.epochs sets fit.epochs"),
    ("tune", {"seeds": 0, "search": TUNE["search"]}, "recipe.yaml: tune.seeds: must be a whole number of at least 1"),
    ("seed", "zero", "recipe.yaml.seed: must be a whole number from 0 to 4294967295, not 'zero'"),
]


@pytest.mark.parametrize(
    ("key", "value", "message"), RECIPES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_wrong_recipe_is_refused_before_anything_starts(key: str, value: Any, message: str, capsys) -> None:
    Path("recipe.yaml").write_text(yaml.safe_dump(change_value(RECIPE, key, value)))
    for command in ("plan", "fit"):
        assert message in run_refused(capsys, command, "recipe.yaml")


@pytest.mark.parametrize(
    ("name", "key", "value", "instead"),
    [
        ("vision/resnet", "model.size", [8, 8], "the data decide it"),
        ("generative/gaussians", "generator.latent", 32, "set task.latent"),
        ("generative/gaussians", "generator.shape", [7], "the data decide it"),
        ("generative/dcgan", "discriminator.shape", [8], "the data decide it"),
        ("language/blanks", "model.outputs", 3, "the data decide it"),
        ("text/languages-cnn", "model.vocabulary", 9, "the data decide it"),
        ("style/transfer", "features.channels", 1, "the data decide it"),
    ],
)
def test_arguments_that_the_task_sets_are_refused(name: str, key: str, value: Any, instead: str, capsys) -> None:
    content = recipe.overlay(recipe.load(ROOT / f"pipelines/{name}.yaml"), {f"task.{key}": value})
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    message = f"recipe.yaml: task.{key}: {value} can't be set in a recipe; {instead}"
    assert message in run_refused(capsys, "plan", "recipe.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"fit: {epochs: 3}\nfit: {epochs: 4}\n", "line 2, column 1: key 'fit' appears twice"),
        (b"task:\n  model: {use: a, use: b}\n", "line 2, column 19: key 'use' appears twice"),
        (b"fit: [1, 2\n", "line 2, column 1"),
        (
            b"data:\n  since: 2024-13-45\n",
            "line 2, column 10: '2024-13-45' cannot be read as timestamp (month must be in 1..12)",
        ),
        (b"data: caf\xe9\n", "not UTF-8 text"),
        (b"\x00\x01", "recipe.yaml: "),
        (b"- a\n- b\n", "holds no mapping of sections"),
        (b"", "holds no mapping of sections"),
        (b"data: !!python/object/apply:os.system ['touch pwned']\n", "could not determine a constructor"),
    ],
)
def test_broken_files_are_refused_with_their_place(content: bytes, message: str, capsys) -> None:
    Path("recipe.yaml").write_bytes(content)
    assert message in run_refused(capsys, "plan", "recipe.yaml")


PATIENT = {"choices": [None, 2]}


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        ("fit", recipe.overlay(RECIPE, {"fit": RECIPE["fit"] | {"patience": 2}}), "recipe.yaml: fit.patience: needs a"),
        ("fit", recipe.overlay(RECIPE, {"fit": RECIPE["fit"] | {"keep": "best"}}), "recipe.yaml: fit.keep: needs a"),
        (
            "fit",
            change_value(RECIPE, "fit/patience", None)
            | {"tune": {"folds": 3, "search": {"sampler": "grid", "space": {"fit.patience": PATIENT}}}},
            "recipe.yaml: fit.patience: needs a validation split, also for the fit after a search, and the",
        ),
        (
            "fit",
            {**RECIPE, "tune": {"seeds": 3, "search": TUNE["search"]}},
            "recipe.yaml: tune.seeds: the data have no",
        ),
        ("tune", change_value(PARAMS, "finetune/fit/patience", 2), "finetune.fit.patience: needs a validation split"),
    ],
)
def test_a_fit_that_needs_a_validation_split_is_refused_before_the_first_trial(
    command: str, content: dict[str, Any], message: str, capsys
) -> None:
    path = "params.yaml" if command == "tune" else "recipe.yaml"
    Path(path).write_text(yaml.safe_dump(content))
    assert message in run_refused(capsys, "plan", path)
    assert message in run_refused(capsys, command, *([] if command == "tune" else [path]))


@pytest.mark.parametrize(("validation", "code"), [(0, 2), (1, 0)])
def test_one_validation_example_is_enough_to_be_patient(validation: int, code: int, capsys) -> None:
    content = change_value(change_value(RECIPE, "fit/patience", 2), "data/validation", validation)
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    assert main(["plan", "recipe.yaml"]) == code


def test_missing_file_is_refused(capsys) -> None:
    assert "missing.yaml: no such recipe" in run_refused(capsys, "fit", "missing.yaml")


@pytest.mark.parametrize("reader", ["coco_folder.CocoFolder", "voc_folder.VocFolder", "yolo_folder.YoloFolder"])
def test_missing_files_of_the_user_are_refused(reader: str, capsys) -> None:
    task = {"use": "tasks.one_stage.OneStage", "model": {"use": "models.ssd.SSD"}}
    task |= {"criterion": {"use": "losses.multi_box.MultiBox"}}
    data = {"use": f"data.{reader}", "folder": "data/raw/mine"}
    Path("recipe.yaml").write_text(yaml.safe_dump({"data": data, "task": task, "fit": {"epochs": 1}}))
    for command in ("plan", "fit"):
        assert "data: data/raw/mine does not exist; put the data there" in run_refused(capsys, command, "recipe.yaml")


@pytest.mark.parametrize("where", ["pictures", "data/raw/linked"])
def test_files_of_the_user_lie_where_changes_are_noticed(where: str, here: Path, capsys) -> None:
    """The flagship's `prepare` depends on data/raw; DVC does not look into a linked folder."""
    for folder in (here / "pictures", here / "data/raw/mine"):
        (folder / "cat").mkdir(parents=True)
    (here / "data/raw/linked").symlink_to(here / "pictures")
    section = {"use": "data.image_folder.ImageFolder", "folder": where, "size": 16, "colour": False}
    Path("params.yaml").write_text(yaml.safe_dump(change_value(PARAMS, "data/target", section)))
    assert f"data.target: {where} lies outside data/raw" in run_refused(capsys, "plan", "params.yaml")
    section["folder"] = "data/raw/mine"
    Path("params.yaml").write_text(yaml.safe_dump(change_value(PARAMS, "data/target", section)))
    assert main(["plan", "params.yaml"]) == 0


def test_valid_files_pass(capsys) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    Path("recipe.yaml").write_text(yaml.safe_dump(change_value(RECIPE, "tune", TUNE)))
    seeds = change_value(RECIPE, "tune", {"seeds": 1, "search": TUNE["search"]})
    Path("seeds.yaml").write_text(yaml.safe_dump(change_value(seeds, "data/validation", 100)))
    assert main(["plan", "params.yaml", "recipe.yaml", "seeds.yaml"]) == 0
    assert capsys.readouterr().out.count("fine") == 3


def test_both_data_sets_of_the_flagship_have_pictures_of_one_shape() -> None:
    params = recipe.load(Path(__file__).parents[3] / "params.yaml")
    check_flagship(params)
    other = recipe.overlay(params, {"data.target.size": 28})
    message = (
        "data.target: has pictures of 28 x 28 pixels and 1 channel, but data.source 16 x 16 .* same size and colour"
    )
    with pytest.raises(Refusal, match=message):
        check_flagship(other)
    params["data"]["target"] = {"use": "data.sine.Sine"}
    with pytest.raises(Refusal, match=r"data\.target: has columns x, y, time, but the flagship classifies pictures"):
        check_flagship(params)


@pytest.mark.parametrize("name", ["config.json", "model.json"])
def test_what_a_start_has_no_room_for_is_refused(name: str, tmp_path: Path) -> None:
    sizes = {
        "config.json": {"max_position_embeddings": 32, "num_hidden_layers": 2},
        "model.json": {"task": {"model": {"use": "models.bert.BERT", "positions": 32, "layers": 2}}},
    }
    (tmp_path / name).write_text(json.dumps(sizes[name]))
    start = {"start": str(tmp_path)}
    check_room({**start, "length": 32, "frozen": 2}, "")
    check_room({"start": str(tmp_path / "later"), "length": 64}, "")
    with pytest.raises(Refusal, match=r"task.length: 33 is more than the 32 positions of .*; lower it"):
        check_room({**start, "length": 33}, "")
    with pytest.raises(Refusal, match=r"task.frozen: 3 is more than the 2 layers of"):
        check_room({**start, "frozen": 3}, "")
