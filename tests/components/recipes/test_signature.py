"""Constants of classes are read from sources: literals, and those that a class takes from another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.recipes import allowed
from components.recipes.signature import class_constant

SOURCE = """
from components.tasks.regression import Regression as Numbers
import elsewhere

LENGTHS = ("text",)

class First:
    lengths: tuple = ("a", "b")

class Second:
    monitor: tuple = Numbers.monitor
    lengths: tuple = First.lengths
    extras: tuple = LENGTHS
    targets: tuple = elsewhere.targets
"""


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("tasks.regression.Regression", "monitor", ("mse", "min")),
        ("tasks.kernel_regression.KernelRegression", "monitor", ("mse", "min")),
        ("tasks.self_critical.SelfCritical", "monitor", ("bleu", "max")),
        ("tasks.regression.Regression", "nothing", "default"),
        ("mylab.tasks.Second", "monitor", ("mse", "min")),
        ("mylab.tasks.Second", "lengths", ("a", "b")),
        ("mylab.tasks.Second", "extras", "default"),
        ("mylab.tasks.Second", "targets", "default"),
    ],
)
def test_constants_are_read_without_an_import(
    path: str, name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").touch()
    (tmp_path / "mylab" / "tasks.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(allowed, "PACKAGES", frozenset({"mylab"}))
    assert class_constant(path, name, "default") == value
