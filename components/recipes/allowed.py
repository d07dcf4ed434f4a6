"""Find and import the callables that recipes name: below `components`, or in packages that TRAINYARD_ALLOW names.

    TRAINYARD_ALLOW=mylab,lab2 trainyard fit mine.yaml       # task: {model: {use: mylab.models.Wide}}

By default no other package is allowed. The variable is read once, when the process starts; a worker gets the list of
its driver (`replace_packages`). Nothing that a recipe names can extend the list. Whoever sets the variable lets
recipes, and models trained with them, import these packages and so run any code in them; a check of arguments only
reads their sources. The packages must be importable on every machine: installed, or on PYTHONPATH. DVC does not know
them: for a stage to run again when such code changes, name its files in the stage's `deps`.
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
PACKAGE = __name__.removesuffix(".recipes.allowed")  # with a registered model it travels under another name


def _split_names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")} - {""}


PACKAGES = _split_names(os.environ.get(ALLOW, ""))  # that recipes may name, beside our own


def replace_packages(names: str) -> None:
    """Allow these packages, comma-separated, and no others: what the driver allows its workers."""
    PACKAGES.clear()
    PACKAGES.update(_split_names(names))


def find_source(module: str) -> Path:
    """Return the file of a module below `components`, or otherwise of an allowed one; nothing is imported."""
    if any(part.startswith("_") for part in module.split(".")):
        raise Refusal(f"use: {module} is private; name a class of a module without a leading _")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if file.is_file():
        return file
    if not is_foreign(module):
        modules = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in ROOT.rglob("[!_]*.py")]
        hint = "" if _is_ours(module) else f"; code elsewhere must be allowed by {ALLOW}={_top(module)}"
        raise Refusal(f"use: no file components/{'/'.join(module.split('.'))}.py{suggest_name(module, modules)}{hint}")
    source = _find_foreign(module)
    if source is None:
        raise Refusal(f"use: Python finds no source of {module}; install it, or put its folder into PYTHONPATH")
    return source


def import_module(name: str) -> ModuleType:
    """Import a module below `components`, or otherwise an allowed one."""
    find_source(name)
    return importlib.import_module(name if is_foreign(name) else f"{PACKAGE}.{name}")


def foreign_sources(section: Any) -> Iterator[Path]:
    """Yield the files of the modules outside `components` that a section, at any depth, names by `use`."""
    items: list[Any] = []
    if isinstance(section, dict):
        used = section.get("use")
        if isinstance(used, str) and is_foreign(used):
            yield find_source(used.rpartition(".")[0])
        items = list(section.values())
    elif isinstance(section, list):
        items = section
    for item in items:
        yield from foreign_sources(item)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_ours(module: str) -> bool:
    return (ROOT / _top(module)).is_dir() or (ROOT / f"{_top(module)}.py").is_file()


def is_foreign(module: str) -> bool:
    """Return whether a module is allowed and outside `components`, whose names take precedence."""
    return _top(module) in PACKAGES and not _is_ours(module)


def _find_foreign(module: str) -> Path | None:
    """Return the file that Python would import as `module`, without importing its parent packages."""
    spec = importlib.util.find_spec(_top(module))
    for depth in range(2, module.count(".") + 2):
        places = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(".".join(module.split(".")[:depth]), list(places)) if places else None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
