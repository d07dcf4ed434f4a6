"""Decide what a `use` may name: each slot of a recipe takes classes of its own rooms, and nothing else of the project.

A slot's kind is the name of what its owner needs: "Task" and "Dataset" for the sections of a recipe; below them what
the annotation of an argument says that the callable returns, so `Callable[..., nn.Module]` is a slot for models.
Functions are taken from FUNCTION_ROOMS alone. A user's allowed packages (allowed.py) count as part of every room, but
their classes must be of the slot's kind, too.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import Refusal, suggest_name
from . import allowed
from .signature import find_definition, parse_source

# kind of a slot -> the folders or modules below `components` that hold what fits into it
ROOMS = {
    "Task": ("tasks",),
    "Dataset": ("data",),
    "Module": ("models", "layers", "losses"),
    "Optimizer": ("optimizers",),
    "Transform": ("augment",),
    "float": ("schedules",),
    "TokenizerTrainer": ("tokens",),
    "TokenMasking": ("augment",),
}
PARTS = ("data", "models", "layers", "losses", "augment", "optimizers", "schedules")  # of any other kind
FUNCTION_ROOMS = ("optimizers", "schedules")
FUNCTION_KINDS = ("Optimizer", "float", "")
METHODS = {
    "Dataset": ("parts", "examples"),
    "Transform": ("__call__",),
    "TokenizerTrainer": ("train",),
    "TokenMasking": ("count", "__call__"),
}  # of classes that need no common base
TITLES = {
    "Task": "a task",
    "Dataset": "a data set",
    "Module": "a model (nn.Module)",
    "Optimizer": "an optimiser",
    "Transform": "a transform of pictures",
    "float": "a schedule",
    "TokenizerTrainer": "a kind of tokens",
    "TokenMasking": "a masking of tokens",
    "": "a part of a task or of a data set",
}


def read_kind(annotation: ast.expr | None) -> str:
    """Return the dotted name of what the callables of an annotated argument return; "" if it does not say."""
    for node in ast.walk(annotation) if annotation is not None else ():
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Callable":
            result = getattr(node.slice, "elts", [None])[-1]
            text = ast.unparse(result) if isinstance(result, ast.Name | ast.Attribute) else ""
            return "" if text == "Any" else text
    return ""


def check_source(path: str, kind: str) -> None:
    """Refuse a `use` of `path` in a slot of this kind, as far as the sources say; nothing is imported."""
    kind = kind.rpartition(".")[2]
    module, _, name = path.rpartition(".")
    file, tree, node = find_definition(path)
    title = TITLES.get(kind, f"a {kind}")
    rooms = ROOMS.get(kind, PARTS)
    is_foreign = allowed.is_foreign(module)
    if not is_foreign and module.partition(".")[0] not in rooms:
        where = " or ".join(f"components/{room}" for room in rooms)
        raise Refusal(f"use: '{path}' is not {title}; name one of {where}{suggest_name(name, _list_names(rooms))}")
    if isinstance(node, ast.FunctionDef):
        fits = kind in FUNCTION_KINDS and (is_foreign or module.partition(".")[0] in FUNCTION_ROOMS)
    else:
        fits = is_foreign or _is_class_of(kind, file, tree, node)
    if not fits:
        raise Refusal(f"use: '{path}' is not {title}{suggest_name(name, _list_names([module]))}")


def check_object(target: Any, path: str, kind: str, base: Any) -> None:
    """Refuse an imported object that is not what `path` and the slot's kind promise; base: the class of that kind."""
    module = path.rpartition(".")[0]
    is_class = isinstance(target, type)
    if not (is_class or inspect.isfunction(target)) or not f".{target.__module__}".endswith(f".{module}"):
        raise Refusal(f"use: '{path}' is not a class or a function that {module} itself defines; name its own module")
    kind = kind.rpartition(".")[2]
    methods = METHODS.get(kind, ())
    if getattr(base, "_is_protocol", False):
        own = [name for name, item in vars(base).items() if inspect.isfunction(item)]
        methods = methods or tuple(name for name in own if name[0] != "_" or name == "__call__")
    if not is_class:
        fits = kind in FUNCTION_KINDS
    elif methods:
        fits = all(any(name in vars(ancestor) for ancestor in target.__mro__) for name in methods)
    else:
        fits = kind != "float" and (not isinstance(base, type) or issubclass(target, base))
    if not fits:
        raise Refusal(f"use: '{path}' is not {TITLES.get(kind, f'a {kind}')}; name another")


def find_base(kind: str, module: str) -> Any:
    """Return the class of a kind as the module of the slot's owner names it; None if it does not."""
    place: Any = sys.modules.get(module)
    for name in kind.split("."):
        place = getattr(place, name, None)
    return place


def _is_class_of(kind: str, file: Path, tree: ast.Module, node: ast.ClassDef) -> bool:
    """Return whether one of the project's classes is of a kind; classes of protocols are left to `check_object`."""
    lineage = list(_ancestors(file, tree, node))
    if kind in METHODS:
        functions = {item.name for each in lineage for item in each.body if isinstance(item, ast.FunctionDef)}
        return functions >= set(METHODS[kind])
    if kind in ("Task", "Module", "Optimizer"):
        return kind in {ast.unparse(base).rpartition(".")[2] for each in lineage for base in each.bases}
    return kind != "float"


def _ancestors(file: Path, tree: ast.Module, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """Yield a class and those of its ancestors that the project's sources define."""
    yield node
    for base in (ast.unparse(base) for base in node.bases):
        place, source = file, tree
        for item in tree.body:
            if isinstance(item, ast.ImportFrom) and item.level and base in (alias.name for alias in item.names):
                place = file.parents[item.level - 1].joinpath(*(item.module or "").split(".")).with_suffix(".py")
                source = parse_source(place) if place.is_file() else ast.Module([], [])
        for item in source.body:
            if isinstance(item, ast.ClassDef) and item.name == base:
                yield from _ancestors(place, source, item)


def _list_names(places: tuple[str, ...] | list[str]) -> list[str]:
    """Return the names of the classes and functions in folders or modules below `components`."""
    names = []
    for place in places:
        path = allowed.ROOT.joinpath(*place.split("."))
        for file in [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.glob("[!_]*.py")):
            nodes = parse_source(file).body
            names += [n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name[0] != "_"]
    return names
