"""Signatures of callables, read from their source files, and whether values fit the annotations in them.

Nothing is imported, so a command line answers in milliseconds and without torch.
"""

from __future__ import annotations

import ast
import keyword
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import Refusal, suggest_name
from . import allowed
from .ranges import RANGES

PLAIN = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "dict": (dict,), "list": (list,)}
PLAIN_TEXTS = {"str": "a text", "bool": "true or false", "list": "a list", "dict": "a mapping"}


@dataclass(frozen=True)
class Argument:
    """An argument of a callable, as its source states it."""

    annotation: ast.expr | None
    default: ast.expr | None  # None: the argument is required
    keyword_only: bool


def read_signature(path: str) -> dict[str, Argument]:
    """Return the arguments of the class or function at the dotted `path`, below `components` or allowed."""
    _, tree, node = find_definition(path)
    if isinstance(node, ast.ClassDef):
        return _class_arguments(node, tree)
    return _arguments(node.args, skip=0)


def find_definition(path: str) -> tuple[Path, ast.Module, ast.ClassDef | ast.FunctionDef]:
    """Return the file and the tree that define the public class or function at `path`, and its own node."""
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() and not keyword.iskeyword(part) for part in path.split(".")):
        raise Refusal(
            f"use: '{path}' is not a dotted path of a callable below components/; write one such as models.lenet.LeNet"
        )
    file = allowed.find_source(module)
    tree = parse_source(file)
    nodes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name[0] != "_"}
    if name not in nodes:
        where = file.relative_to(allowed.ROOT.parent) if file.is_relative_to(allowed.ROOT) else file
        raise Refusal(f"use: {where} defines no '{name}'{suggest_name(name, nodes)}; it has: {', '.join(nodes)}")
    return file, tree, nodes[name]


def class_constant(path: str, name: str, default: Any = None) -> Any:
    """Return the value that the class at the dotted `path` assigns to `name` in its body, else `default`.

    The value is a literal, or a constant of another class that the file defines or imports, as in `Regression.monitor`.
    One that only an import would tell counts as none.
    """
    _, tree, node = find_definition(path)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == name and item.value is not None:
            value = item.value
            try:
                if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
                    return class_constant(_imported_path(tree, path, value.value.id), value.attr, default)
                return ast.literal_eval(value)
            except (Refusal, ValueError):
                return default
    return default


def _imported_path(tree: ast.Module, path: str, name: str) -> str:
    """Return the dotted path of the class that the module of `path` calls `name`."""
    module = path.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            package = module.split(".")[: -node.level] if node.level else []
            return ".".join([*package, *([node.module] if node.module else []), original]).removeprefix("components.")
    return f"{module}.{name}"


@cache
def parse_source(file: Path) -> ast.Module:
    """Return the syntax tree of a source file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def _class_arguments(node: ast.ClassDef, tree: ast.Module) -> dict[str, Argument]:
    """Return the arguments of a class: of its `__init__`, its dataclass fields, or those of its base in the file."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _arguments(item.args, skip=1)
    if any(isinstance(d, ast.Name | ast.Call) and "dataclass" in ast.unparse(d) for d in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        return {ast.unparse(f.target): Argument(f.annotation, f.value, False) for f in fields}
    for base in node.bases:
        for other in tree.body:
            if isinstance(other, ast.ClassDef) and isinstance(base, ast.Name) and other.name == base.id:
                return _class_arguments(other, tree)
    return {}


def _arguments(node: ast.arguments, skip: int) -> dict[str, Argument]:
    """Return the arguments of a function but for the first `skip`, such as `self`."""
    positional = (node.posonlyargs + node.args)[skip:]
    defaults = [*[None] * (len(positional) - len(node.defaults)), *node.defaults]
    arguments = {a.arg: Argument(a.annotation, d, False) for a, d in zip(positional, defaults, strict=True)}
    return arguments | {
        a.arg: Argument(a.annotation, d, True) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True)
    }


# ------------------------------------------------------------------------------------------------ annotations


def is_use(value: Any) -> bool:
    """Return whether a value is a section that names a callable."""
    return isinstance(value, dict) and "use" in value


def is_called_without_arguments(annotation: ast.expr | None) -> bool:
    """Return whether the owner of such a callable adds no arguments to it: `Callable[[], Dataset]`."""
    return annotation is not None and ast.unparse(annotation).startswith("Callable[[],")


def describe_misfit(value: Any, annotation: ast.expr) -> str:
    """Return what the value should have been, or '' where it fits; unknown annotations are left to the callable."""
    if isinstance(annotation, ast.BinOp):  # X | Y
        first, second = describe_misfit(value, annotation.left), describe_misfit(value, annotation.right)
        return f"{first} or {second}" if first and second else ""
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "" if value is None else "null"
    if isinstance(annotation, ast.Subscript):
        return _describe_subscript_misfit(value, annotation)
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    if name == "Callable":
        return "" if is_use(value) else "a section with 'use: <file>.<Name>'"
    if name in RANGES:
        types, test, text = RANGES[name]
        return "" if isinstance(value, types) and not isinstance(value, bool) and test(value) else text
    if name in PLAIN:
        fits = isinstance(value, PLAIN[name]) and (name == "bool" or not isinstance(value, bool))
        return "" if fits else PLAIN_TEXTS.get(name, f"of type {name}")
    return ""


def _describe_subscript_misfit(value: Any, annotation: ast.Subscript) -> str:
    kind = ast.unparse(annotation.value)
    if kind == "Callable":
        return describe_misfit(value, annotation.value)
    if kind == "Literal":
        options = [ast.literal_eval(o) for o in getattr(annotation.slice, "elts", [annotation.slice])]
        choice = f"'{options[0]}'" if len(options) == 1 else f"one of {', '.join(map(str, options))}"
        return "" if value in options else f"{choice}{suggest_name(str(value), options)}"
    if kind in ("list", "Sequence"):
        if not isinstance(value, list):
            items = ast.unparse(annotation.slice)
            return f"a list of {'sections' if items.startswith('Callable') else items}"
        misfits = (describe_misfit(item, annotation.slice) for item in value)
        first = next((misfit for misfit in misfits if misfit), "")
        return f"a list, each item {first}" if first else ""
    if kind == "dict":
        return "" if isinstance(value, dict) else "a mapping"
    return ""
