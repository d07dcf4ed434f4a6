"""Recipes are read, changed, checked against the sources of the callables they name, and built."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import Refusal
from components.recipes import recipe
from components.training import engine
from components.training.task import Task
from tests.fuzz.child import run_limited

GAN_FILES = ("dcgan", "pix2pix", "progressive", "conditional", "film")


def write(tmp_path, text: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_numbers_in_exponent_form_are_numbers(tmp_path) -> None:
    assert recipe.load(write(tmp_path, "a: 1e-3\nb: 5E4\nc: 1.5e+2\nd: abc-1e3")) == {
        "a": 1e-3,
        "b": 5e4,
        "c": 150.0,
        "d": "abc-1e3",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "'a' appears twice"),
        ("a: [1, 2", "line"),
        ("- 1", "mapping"),
        ("", "mapping"),
    ],
)
def test_broken_files_are_refused_with_the_line(tmp_path, text: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        recipe.load(write(tmp_path, text))


LAUGHS = "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 23))])
MERGES = "\n".join(["a0: &a0 {b: 1}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 23))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "line 13, column 6: more than 10,000 values"),
        (MERGES, "line 12, column 16: more than 10,000 values"),
        ("a: &a\n  b: *a", "line 1, column 4: an alias inside its own anchor"),
        ("a: &a [*a]", "an alias inside its own anchor"),
        ("a: &a {<<: *a}", "an alias inside its own anchor"),
        ("a: " + "[" * 25 + "]" * 25, "nested more than 24 deep"),
        ("a: " + "{b: " * 10000, "nested more than 24 deep"),
        ("\n".join(f"k{i}: 1" for i in range(5000)), "more than 10,000 values"),
        ("1: a", "line 1, column 1: a key must be a string; put it in quotes"),
        ("? [a, b]\n: a", "a key must be a string"),
        ("a: 0x1" + "0" * 16, "a number of more than 64 bits"),
        ("a: " + ":".join(["1"] * 20000), "a number of more than 64 bits"),
        ("a: " + "9" * 20000, "cannot be read as int .Exceeds the limit"),
        ("a: !!bool 7", "line 1, column 4: '7' cannot be read as bool"),
        ("a: !!timestamp soon", "'soon' cannot be read as timestamp"),
        ("a: !!int ''", "'' cannot be read as int"),
        ("a: 2024-13-45", "cannot be read as timestamp .month must be in 1..12"),
        ("a: b" + " " * (64 << 10), "has more than 64 kB, too much for a recipe"),
    ],
)
def test_limits_name_the_line(tmp_path, text: str, message: str) -> None:
    path = write(tmp_path, text)

    def load() -> str:
        with pytest.raises(Refusal, match=message) as refusal:
            recipe.load(path)
        return str(refusal.value)

    assert len(run_limited(load, seconds=5, memory=100 << 20)) < 400 + len(str(path))


def test_aliases_within_the_limits_are_copies(tmp_path) -> None:
    deep = "a: " + "[" * 22 + "]" * 22
    assert recipe.load(write(tmp_path, "a: &a {b: 1}\nc: {<<: *a, d: *a}")) == {
        "a": {"b": 1},
        "c": {"b": 1, "d": {"b": 1}},
    }
    assert recipe.load(write(tmp_path, deep))
    assert len(recipe.load(write(tmp_path, "\n".join(f"k{i}: 1" for i in range(4999))))) == 4999


def test_a_file_that_is_not_utf8_is_refused(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(Refusal, match="UTF-8"):
        recipe.load(path)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": "ten"}, "whole number of at least 1, not 'ten'"),
        ({"epochs": True}, "whole number"),
        ({"batch": 0}, "at least 1 or 'all', not 0"),
        ({"clip": -1}, "above 0 or null"),
        ({"precision": "fp16"}, "did you mean 'bfloat16'"),
        ({"schedule": 5}, "section with 'use"),
        ({"schedule": {"use": "schedules.cosin"}}, "did you mean 'cosine'"),
        ({"schedule": {"use": "schedule.cosine"}}, "did you mean 'schedules'"),
        ({"schedule": {"use": "schedules.cosine", "warmup": 2}}, "fit.schedule.warmup: must be a number from 0 to 1"),
        ({"schedule": {"use": "schedules.steps", "steps": 3}}, "fit.schedule.steps: schedules.steps has no such arg"),
        ({"channels_last": 1}, "true or false"),
        ({"ema": "0.9"}, "number of at least 0 and below 1"),
        ([], "mapping"),
    ],
)
def test_a_wrong_fit_section_is_refused(section, message: str) -> None:
    with pytest.raises(Refusal, match="fit") as refused:
        recipe.check_arguments("training.engine.fit", section, "fit", complete=True)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"use": "models.resnet.ResNt"}, "did you mean 'ResNet'"),
        ({"use": "models.resnet.ResNet", "width": [8]}, "did you mean 'widths'"),
        ({"use": "models.resnet.ResNet", "widths": 8}, "a list"),
        ({"use": "models.resnet.ResNet", "widths": [8, 0]}, "at least 1"),
        ({"use": "models.vgg.VGG", "widths": [8, True]}, "a list of one or more whole numbers"),
        ({"use": "models.resnet.ResNet", "stem": "cifra"}, "did you mean 'cifar'"),
        ({"use": "optimizers.sgd", "parameters": []}, "optimizers.sgd has no such argument; it has: lr, "),
        ({"use": "os.system"}, "no file components/os.py"),
        ({"use": "../../etc/passwd"}, "not a dotted path"),
        ({"use": "models.resnet._hidden"}, "defines no"),
        ({"uses": "models.resnet.ResNet"}, "needs 'use"),
        ("models.resnet.ResNet", "needs 'use"),
    ],
)
def test_a_wrong_use_is_refused(section, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        recipe.check_use(section, "model", "Optimizer" if "optimizers" in str(section) else "Module")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("models.vgg.VGG", name) for name in ("convolutions", "widths")),
        *(("models.convnet.ConvNet", name) for name in ("convolutions", "widths")),
        *((f"models.{file}.{net}", "widths") for file in GAN_FILES for net in ("Generator", "Discriminator")),
        *(("models.gan.Generator", "hidden"), ("models.gan.Discriminator", "hidden")),
        *(("models.resnet.ResNet", "widths"), ("models.feature_net.FeatureNet", "widths")),
        *(("models.proposal_cnn.ProposalCNN", "widths"), ("models.text_cnn.TextCNN", "widths")),
    ],
)
def test_a_network_without_layers_is_refused(path: str, name: str) -> None:
    with pytest.raises(Refusal, match=rf"{name}: must be a list of one or more whole numbers of at least 1, not \[\]"):
        recipe.check_arguments(path, {name: []}, "model")
    recipe.check_arguments(path, {name: [8, 8]}, "model")
    recipe.check_arguments("models.mlp.MLP", {"hidden": []}, "model")  # softmax regression


def test_errors_in_nested_sections_name_their_place() -> None:
    task = {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.lenet.LeNet"},
        "augment": [{"use": "augment.flip.RandomHorizontalFlip", "p": 2}],
    }
    with pytest.raises(Refusal, match=r"task\.augment\[0\]\.p"):
        recipe.check_use(task, "task", "Task")


def test_overlay_does_not_change_the_original() -> None:
    original = {"task": {"optimizer": {"lr": 0.1}}}
    assert recipe.overlay(original, {"task.optimizer.lr": 0.2}) == {"task": {"optimizer": {"lr": 0.2}}}
    assert original["task"]["optimizer"]["lr"] == 0.1
    with pytest.raises(Refusal, match="did you mean 'optimizer'"):
        recipe.overlay(original, {"task.optimiser.lr": 0.2})


def test_nested_sections_are_built_as_factories() -> None:
    section = {"use": "tasks.classification.Classification", "model": {"use": "models.softmax.Softmax"}}
    task = recipe.build(section, Task)
    assert task.model(channels=1, size=(4, 4), classes=3).head.weight.shape == (3, 16)


def test_missing_arguments_get_the_defaults_of_the_signature() -> None:
    python = {n: p.default for n, p in inspect.signature(engine.fit).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert len(python) >= 17
    assert recipe.fill_defaults("training.engine.fit", {}) == python
    changed = {"batch": 16, "schedule": {"use": "schedules.cosine"}}
    assert recipe.fill_defaults("training.engine.fit", changed) == python | changed


def test_digest_and_flatten() -> None:
    assert recipe.digest({"a": 1, "b": 2}) == recipe.digest({"b": 2, "a": 1}) != recipe.digest({"a": 1, "b": 3})
    assert recipe.flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}


def test_a_check_imports_nothing_heavy() -> None:
    code = (
        "import sys; from components.recipes import recipe; "
        "recipe.check_use({'use': 'models.resnet.ResNet'}, 'model', 'Module'); "
        "recipe.check_arguments('training.engine.fit', {}, 'fit', complete=True); "
        "assert not {'torch', 'numpy', 'ray', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
