"""The stages of a user's own recipes, pipelines/own/dvc.yaml: each names the data and exactly the code that it uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.errors import Refusal
from components.recipes import recipe
from pipelines.stage.code_files import list_code_files

OWN = Path("pipelines/own")
STAGES = OWN / "dvc.yaml"
ENGINE = ("components/training/", "components/storage/", "pipelines/workers/")  # dependencies as folders
ENGINE_FILES = ("components/optimizers.py", "components/schedules.py", "pipelines/fit.py")
WIDTH = 116  # of a line of code files
# DVC fills a place of a list from one value alone, so all lists of code are equally long: the last file is repeated
TEXT = """\
# Recipes of this checkout's own data, written by `trainyard inspect PATH --write NAME`:
# dvc repro pipelines/own/dvc.yaml:fit@NAME
# code: the files that the recipe uses; a change in them, and in no others, runs the stage again
stages:
  fit:
    foreach:
{entries}
    do:
      wdir: ../..
      cmd: python -m pipelines fit pipelines/own/${{key}}.yaml
      deps: [
        "pipelines/own/${{key}}.yaml", "${{item.data}}", components/training, components/storage,
        components/optimizers.py, components/schedules.py, pipelines/fit.py, pipelines/workers,
{places}
      ]
      outs:
        - results/own/${{key}}/model
      metrics:
        - results/own/${{key}}/metrics.json: {{cache: false}}
        - results/own/${{key}}/cost.json: {{cache: false}}
      plots:
        - results/own/${{key}}/history.csv: {{cache: false, template: runs, x: epoch, y: epoch/loss}}
        - results/own/${{key}}/pictures: {{cache: false}}
"""


def read_places() -> dict[str, str]:
    """Return {recipe: path of its data} of the stages that are there."""
    return {name: str(entry["data"]) for name, entry in _read_entries().items()}


def format_stages(places: Mapping[str, str], contents: Mapping[str, dict[str, Any]]) -> str:
    """Return the text of pipelines/own/dvc.yaml.

    places: {recipe: path of its data}. contents: recipes that are not written yet.
    """
    codes = {name: code_of(contents.get(name) or recipe.load(OWN / f"{name}.yaml")) for name in places}
    longest = max(map(len, codes.values()))
    entries = []
    for name, place in places.items():
        code = codes[name] + codes[name][-1:] * (longest - len(codes[name]))
        entries += [
            f"      {name}:",
            f"        data: {_quote(place)}",
            "        code: [",
            *_wrap(code, 10),
            "        ]",
        ]
    slots = _wrap([f'"${{item.code[{number}]}}"' for number in range(longest)], 8)
    return TEXT.format(entries="\n".join(entries), places="\n".join(slots))


def code_of(content: dict[str, Any]) -> list[str]:
    """Return the code files of a recipe that are not among the dependencies of all stages."""
    return [file for file in list_code_files(content) if not file.startswith(ENGINE) and file not in ENGINE_FILES]


def describe_missing(path: str | Path) -> str | None:
    """Return a line about code that a recipe uses and its stage does not name, or None where nothing is missing."""
    path = Path(path)
    entry = _read_entries().get(path.stem) if path.parent == OWN else None
    missing = [] if entry is None else sorted(set(code_of(recipe.load(path))) - set(entry.get("code", [])))
    if not missing:
        return None
    return f"{STAGES}: {path.stem} uses {', '.join(missing)}, which its `code` does not name; add them there"


def _read_entries() -> dict[str, dict[str, Any]]:
    """Return {recipe: its entry}, {} without the file; refuses a file of another form."""
    if not STAGES.is_file():
        return {}
    try:
        entries = recipe.load(STAGES)["stages"]["fit"]["foreach"]
        return {name: {"data": entry["data"], **entry} for name, entry in entries.items()}
    except (LookupError, TypeError, AttributeError):
        raise Refusal(f"{STAGES}: holds no stage fit with recipes below foreach; correct or remove it") from None


def _wrap(items: list[str], indent: int) -> list[str]:
    """Return items, followed by commas, on lines of at most WIDTH characters."""
    lines = [" " * indent]
    for item in items:
        if len(lines[-1]) + len(item) + 2 > WIDTH:
            lines.append(" " * indent)
        lines[-1] += f"{item}, "
    return [line.rstrip() for line in lines]


def _quote(text: str) -> str:
    """Return a text as one YAML value in double quotes."""
    return yaml.safe_dump(text, default_style='"', width=10_000, allow_unicode=True).strip()
