"""List the sources that can change the result of a recipe, by following the imports of what it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Module or folder -> why it cannot change the output of a stage. No stage runs again because of these modules, nor
# because of what only they import.
NEUTRAL = {
    "components.cluster": "decides where and how fast code runs",
    "components.network": "decides where and how fast code runs",
    "components.processes": "decides where and how fast code runs",
    "components.errors": "decides what is refused",
    "components.drawings": "decides how a picture looks, not what it shows",
    "components.files": "writes values without changing them",
    "components.runs": "writes values without changing them",
    "components.tracking": "sends values without changing them",
    "components.workspace": "decides where files lie",
    "components.recipes": "passes on values, which DVC compares itself",
    "components.verdicts": "describes a run outside the outputs of its stage",
    "pipelines.stage": "surrounds the work with locks, timing, tracking and tables",
    "pipelines.reports": "renders views, which `trainyard report` writes at any time",
}
# Modules that run only if a recipe has a section `tune`.
SEARCH = frozenset({"pipelines.workers.rungs", "components.search"})


def list_code_files(content: dict[str, Any]) -> list[str]:
    """Return the files, relative to the root and sorted, of all modules that a fit of a recipe runs."""
    start = {"pipelines.fit", *named_modules(content)} & modules().keys()
    reached = reachable_modules(start, () if "tune" in content else SEARCH)
    return sorted(modules()[module].relative_to(ROOT).as_posix() for module in reached)


@cache
def modules() -> dict[str, Path]:
    """Return {dotted name: file} of our own modules."""
    files = [file for folder in ("components", "pipelines") for file in (ROOT / folder).rglob("*.py")]
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files if file.name != "__init__.py"
    }


def named_modules(section: Any) -> Iterator[str]:
    """Yield the modules of the callables that a section of a recipe names by `use`."""
    if isinstance(section, list):
        for item in section:
            yield from named_modules(item)
    if isinstance(section, dict):
        if isinstance(section.get("use"), str):
            yield f"components.{section['use'].rpartition('.')[0]}"
        for value in section.values():
            yield from named_modules(value)


def reachable_modules(start: Iterable[str], excluded: Iterable[str]) -> set[str]:
    """Return `start` and all modules that it imports, directly or not, without NEUTRAL and `excluded` ones."""
    excluded = {*NEUTRAL, *excluded}
    reached: set[str] = set()
    new = set(start)
    while new:
        reached |= new
        targets = {target for module in new for target in imported_modules(module)}
        new = {target for target in targets if not {target, target.rpartition(".")[0]} & excluded} - reached
    return reached


@cache
def imported_modules(module: str) -> frozenset[str]:
    """Return our own modules that `module` imports or names in a dotted path, such as an argument of `spread`."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for check in checks for part in check.body for inner in ast.walk(part)}
    names: list[str] = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names += [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += re.findall(r"^pipelines(?:\.\w+)+$", node.value)
    return frozenset(modules().keys() & {part for name in names for part in (name, name.rpartition(".")[0])})
