"""A recipe may name a user's own code only where TRAINYARD_ALLOW allows it (on workers: test_spread.py)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.errors import Refusal
from components.recipes import allowed, recipe, signature
from pipelines import fit

WIDE = """
from components.recipes.ranges import Count

raise_at_import = 1 / 0

class Wide:
    def __init__(self, width: Count = 2) -> None:
        self.width = width
"""
SECTION = {"use": "mylab.deep.models.Wide", "width": 3}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the class into a package on the path; return its file."""
    file = tmp_path / "mylab/deep/models.py"
    file.parent.mkdir(parents=True)
    for package in (file.parent, file.parent.parent):
        (package / "__init__.py").touch()
    file.write_text(WIDE.replace("raise_at_import = 1 / 0\n\n", ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    signature.parse_source.cache_clear()
    yield file
    signature.parse_source.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def test_nothing_is_allowed_by_default(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for others in ("other", "mylab.deep", ""):
        monkeypatch.setattr(allowed, "PACKAGES", allowed._split_names(others))
        for refuse in (lambda: recipe.check_use(SECTION, "model", ""), lambda: recipe.build(SECTION, object)):
            with pytest.raises(Refusal, match=r"no file components/mylab/deep/models\.py.*TRAINYARD_ALLOW=mylab"):
                refuse()
    assert "mylab" not in sys.modules


def test_allowed_code_is_checked_without_importing_it(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed, "PACKAGES", allowed._split_names("other, mylab"))
    source = lab.read_text()
    lab.write_text(WIDE)  # fails when it is imported
    signature.parse_source.cache_clear()
    recipe.check_use(SECTION, "model", "")
    for wrong, message in (({"widht": 3}, "did you mean 'width'"), ({"width": 0}, "at least 1")):
        with pytest.raises(Refusal, match=message):
            recipe.check_use({"use": SECTION["use"], **wrong}, "model", "")
    for use, message in (
        ("mylab.deep.modles.Wide", "finds no source of mylab.deep.modles; install it"),
        ("mylab.deep.models.Wild", "did you mean 'Wide'"),
        ("other.models.Wide", "finds no source of other.models"),
    ):
        with pytest.raises(Refusal, match=message):
            recipe.check_use({"use": use}, "model", "")
    assert "mylab" not in sys.modules
    lab.write_text(source)
    assert recipe.build(SECTION, object).width == 3


def test_the_names_of_components_take_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/lenet.py").write_text("class LeNet: pass")
    (tmp_path / "models/other.py").write_text("class Other: pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(allowed, "PACKAGES", {"models"})
    assert allowed.import_module("models.lenet").__name__ == "components.models.lenet"
    with pytest.raises(Refusal, match=r"no file components/models/other\.py"):
        allowed.find_source("models.other")


def test_data_of_a_changed_class_are_prepared_again(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed, "PACKAGES", {"mylab"})
    lab.write_text(lab.read_text() + "    def parts(self): ...\n    def examples(self, split, part): ...\n")
    places = []
    for comment in ("", "# changed"):
        lab.write_text(lab.read_text() + comment)
        places.append(fit.locate_prepared(SECTION))
    assert [own for _, own in places] == [[str(lab)]] * 2
    assert places[0][0] != places[1][0]


def test_the_error_line_names_the_variable_to_set(tmp_path: Path) -> None:
    content = "data: {use: data.digits.Digits}\ntask: {use: mylab.deep.models.Wide}\nfit: {epochs: 1}\n"
    (tmp_path / "recipe.yaml").write_text(content)
    command = [sys.executable, "-c", "from pipelines.door import run; run()", "plan", "recipe.yaml"]
    root = Path(__file__).parents[3]
    plan = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert plan.returncode == 2
    assert plan.stderr.count("\n") == 1
    assert "code elsewhere must be allowed by TRAINYARD_ALLOW=mylab" in plan.stderr


def test_the_variable_is_read_once(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed, "PACKAGES", set())
    monkeypatch.setenv(allowed.ALLOW, "mylab")  # as a part of a recipe could do while the process runs
    with pytest.raises(Refusal, match="must be allowed by"):
        recipe.build(SECTION, object)
    assert "mylab" not in sys.modules
