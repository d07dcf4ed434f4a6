"""The examples of CONTRIBUTING.md for code outside this repository: short, checked, and trained."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.recipes import allowed, recipe
from components.training.peers import Peers
from pipelines.stage.check import check_recipe
from pipelines.workers.records import FitJob
from pipelines.workers.training import fit_and_score

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```(?:python|yaml)\n# (\S+?):?(?: [^\n]*)?\n(.*?)```", re.DOTALL)
MOST_LINES = 40


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the package and the recipe of the examples, and allow the package."""
    blocks = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))
    assert set(blocks) == {"mylab/stripes.py", "mylab/narrow.py", "mylab/hinge.py", "stripes.yaml"}
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").touch()
    for name, text in blocks.items():
        assert len(text.splitlines()) < MOST_LINES, name
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(allowed, "PACKAGES", {"mylab"})
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def test_the_examples_pass_the_check_and_learn(package: Path) -> None:
    content = recipe.load(package / "stripes.yaml")
    check_recipe(content, "stripes.yaml")
    job = FitJob({"task": content["task"], "fit": content["fit"]}, str(package / "run"), str(package / "out"), seed=0)
    result = fit_and_score(Peers(), content["data"], str(package / "data"), job)
    assert result is not None
    assert result.scores["accuracy"] > 0.9
    sources = list(allowed.foreign_sources(content))
    assert sorted(path.name for path in sources) == ["hinge.py", "narrow.py", "stripes.py"]
