"""Callables of a user's own, outside `components`: none, unless TRAINYARD_ALLOW names their top-level package.

    TRAINYARD_ALLOW=mylab,theirs trainyard fit mine.yaml     # task: {model: {use: mylab.models.Wide}}

Whoever sets it lets a recipe, and a model that was trained with one, import these packages and so run whatever code is
in them; a check of arguments only reads their sources. They must be importable on every machine: installed, or on
PYTHONPATH. DVC knows nothing of them: for a stage to run again when such code changes, name its files in its `deps`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import Refusal, suggest_name

ALLOW = "TRAINYARD_ALLOW"
ROOT = Path(__file__).parent.parent
PACKAGE = __name__.removesuffix(".recipes.allowed")  # it may travel under another name


def find_source(module: str) -> Path:
    """The file of a module below `components`, or else of an allowed one; nothing is imported."""
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if file.is_file():
        return file
    if not _foreign(module):
        known = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in ROOT.rglob("[!_]*.py")]
        hint = "" if _ours(module) else f"; code elsewhere must be allowed by {ALLOW}={_top(module)}"
        raise Refusal(f"use: no file components/{'/'.join(module.split('.'))}.py{suggest_name(module, known)}{hint}")
    found = _found(module)
    if found is None:
        raise Refusal(f"use: Python finds no source of {module}; install it, or put its folder into PYTHONPATH")
    return found


def import_module(name: str) -> ModuleType:
    """The same, imported."""
    find_source(name)
    return importlib.import_module(name if _foreign(name) else f"{PACKAGE}.{name}")


def foreign_sources(section: Any) -> Iterator[Path]:
    """The files of the modules outside `components` that a section and what is in it name by `use`."""
    used = section.get("use") if isinstance(section, dict) else None
    if isinstance(used, str) and _foreign(used):
        yield find_source(used.rpartition(".")[0])
    for value in section.values() if isinstance(section, dict) else section if isinstance(section, list) else ():
        yield from foreign_sources(value)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _ours(module: str) -> bool:
    return (ROOT / _top(module)).is_dir() or (ROOT / f"{_top(module)}.py").is_file()


def _foreign(module: str) -> bool:
    """Allowed, and not the name of ours, which nothing can stand in for."""
    allowed = {name.strip() for name in os.environ.get(ALLOW, "").split(",")}
    return _top(module) in allowed and not _ours(module)


def _found(module: str) -> Path | None:
    """As Python would find it, but that no package on the way to it is imported."""
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top)
    for depth, _ in enumerate(parts, 2):
        places = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(".".join(module.split(".")[:depth]), list(places)) if places else None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
