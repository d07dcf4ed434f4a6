"""Recipes: plain YAML whose sections are the keyword arguments of one callable each.

    task:
      use: tasks.classification.Classification     # a dotted path below `components`
      model: {use: models.lenet.LeNet}             # a nested `use` becomes a factory its owner calls
    fit: {epochs: 10, batch: 128}                  # keyword arguments of `components.training.engine.fit`

A section is checked against the callable's signature, which is read from the *source* (no import, so a command line
answers in milliseconds and without torch): unknown names get a 'did you mean', values must fit the annotation, and an
annotation from `ranges.py` adds its range. Only callables below `components` can be named, and those of packages that
TRAINYARD_ALLOW names (allowed.py).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import keyword
import re
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from ..errors import Refusal, suggest_name
from . import allowed
from .ranges import RANGES

ROOT = Path(__file__).parent.parent
PLAIN = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "dict": (dict,), "list": (list,)}
PLAIN_TEXTS = {"str": "a text", "bool": "true or false", "list": "a list", "dict": "a mapping"}


@dataclass(frozen=True)
class Argument:
    annotation: ast.expr | None
    default: ast.expr | None  # None: it must be given
    keyword_only: bool


# ------------------------------------------------------------------------------------------------ reading


def load(path: str | Path) -> dict[str, Any]:
    """The YAML mapping in `path`; a duplicated key or broken syntax is refused with its line."""
    path = Path(path)
    if not path.is_file():
        lost = path == Path("params.yaml")
        remedy = "run trainyard in the root of the repository" if lost else "name a YAML file such as params.yaml"
        raise Refusal(f"{path}: no such recipe; {remedy}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Unique)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise Refusal(f"{path}: {where}{problem}; fix the YAML there") from None
    except UnicodeDecodeError:
        raise Refusal(f"{path}: not UTF-8 text; save it as UTF-8") from None
    if not isinstance(content, dict):
        raise Refusal(f"{path}: holds no mapping of sections; start from params.yaml")
    return content


class _Unique(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice and reads 1e-3 as a number, as people mean it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for index, key in enumerate(keys):
            if any(key.value == other.value for other in keys[:index]):
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as the date 2024-13-45
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None


# YAML 1.1 reads 1e-3 as a text; people mean a number.
_Unique.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def overlay(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of `recipe` with dotted keys replaced: `{"task.optimizer.lr": 0.1}`. The owner of the key must exist."""
    changed = deepcopy(recipe)
    for key, value in changes.items():
        *owners, last = key.split(".")
        section = changed
        for depth, owner in enumerate(owners):
            if not isinstance(section.get(owner), dict):
                where = ".".join(owners[:depth]) or "the recipe"
                raise Refusal(f"{key}: {where} has no section '{owner}'{suggest_name(owner, section)}")
            section = section[owner]
        section[last] = value
    return changed


def digest(value: Any) -> str:
    """SHA-256 (hexadecimal) of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def flatten(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys, in order: the form that MLflow and DVC show."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


# ------------------------------------------------------------------------------------------------ checking


def check_sections(recipe: dict[str, Any], known: dict[str, bool], where: str) -> None:
    """Refuses a section not among `known` and a missing one marked True (required)."""
    if not isinstance(recipe, dict):
        raise Refusal(f"{where}: must be a mapping with {', '.join(known)}; see params.yaml")
    for name in recipe:
        if name not in known:
            raise Refusal(f"{where}: unknown section '{name}'{suggest_name(name, known)}; known: {', '.join(known)}")
    for name, required in known.items():
        if required and name not in recipe:
            raise Refusal(f"{where}: section '{name}' is missing; see params.yaml for an example")


def check_values(section: dict[str, Any], ranges: dict[str, str], where: str) -> None:
    """Checks values of a section that names no callable against ranges of `ranges.py` by name."""
    for name, kind in ranges.items():
        if name in section and (wanted := _misfit(section[name], ast.Name(kind))):
            raise Refusal(f"{where}.{name}: must be {wanted}, not {section[name]!r}")


def check_use(section: Any, where: str, whole: bool = False) -> None:
    """Checks a section that names its callable by `use`, and every `use` inside it.

    whole: nobody else adds arguments, so none that is required may be missing.
    """
    if not isinstance(section, dict) or not isinstance(section.get("use"), str):
        raise Refusal(f"{where}: needs 'use: <file>.<Name>', a dotted path below components/")
    check_arguments(section["use"], {key: value for key, value in section.items() if key != "use"}, where, whole=whole)


def check_arguments(path: str, arguments: Any, where: str, whole: bool = False) -> None:
    """Checks `arguments` against the callable at `path`; those before a `*` in its signature are its owner's to give.

    whole: as for `check_use`.
    """
    if not isinstance(arguments, dict):
        raise Refusal(f"{where}: must be a mapping of arguments of {path}, not {arguments!r}")
    try:
        found = signature(path)
    except Refusal as refusal:
        raise Refusal(f"{where}.{refusal}") from None
    known = {name: a for name, a in found.items() if a.keyword_only} or found
    for name, value in arguments.items():
        if name not in known:
            options = ", ".join(known) or "none"
            raise Refusal(f"{where}.{name}: {path} has no such argument{suggest_name(name, known)}; it has: {options}")
        annotation = known[name].annotation
        if _is_use(value):
            check_use(value, f"{where}.{name}", whole=_called_bare(annotation))
        if annotation is not None and (wanted := _misfit(value, annotation)):
            raise Refusal(f"{where}.{name}: must be {wanted}, not {value!r}")
        for index, item in enumerate(value if isinstance(value, list) else []):
            if _is_use(item):
                check_use(item, f"{where}.{name}[{index}]")
    if whole:
        for name, argument in known.items():
            if argument.default is None and name not in arguments:
                raise Refusal(f"{where}: '{name}' is missing; {path} needs it")


@cache
def signature(path: str) -> dict[str, Argument]:
    """Arguments of the class or function at `path`, below `components` or allowed, read from its source file."""
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() and not keyword.iskeyword(part) for part in path.split(".")):
        raise Refusal(f"use: '{path}' is no dotted path of a callable below components/, such as models.lenet.LeNet")
    file = allowed.find_source(module)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name[0] != "_"}
    if name not in nodes:
        where = file.relative_to(ROOT.parent) if file.is_relative_to(ROOT) else file
        raise Refusal(f"use: {where} defines no '{name}'{suggest_name(name, nodes)}; it has: {', '.join(nodes)}")
    node = nodes[name]
    if isinstance(node, ast.ClassDef):
        return _class_arguments(node, tree)
    return _arguments(node.args, skip=0)


def fill_defaults(path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments`, and of the callable's other keyword-only ones the defaults, which must be literals."""
    others = {name: a.default for name, a in signature(path).items() if a.keyword_only and a.default is not None}
    return {name: ast.literal_eval(default) for name, default in others.items()} | arguments


def _class_arguments(node: ast.ClassDef, tree: ast.Module) -> dict[str, Argument]:
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
    positional = (node.posonlyargs + node.args)[skip:]
    defaults = [*[None] * (len(positional) - len(node.defaults)), *node.defaults]
    found = {a.arg: Argument(a.annotation, d, False) for a, d in zip(positional, defaults, strict=True)}
    return found | {
        a.arg: Argument(a.annotation, d, True) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True)
    }


def _is_use(value: Any) -> bool:
    return isinstance(value, dict) and "use" in value


def _called_bare(annotation: ast.expr | None) -> bool:
    """Whether its owner calls it with no arguments of its own: `Callable[[], Dataset]`."""
    return annotation is not None and ast.unparse(annotation).startswith("Callable[[],")


def _misfit(value: Any, annotation: ast.expr) -> str:
    """What the value should have been, or '' when it fits. Annotations we can't read are left to the callable."""
    if isinstance(annotation, ast.BinOp):  # X | Y
        left, right = _misfit(value, annotation.left), _misfit(value, annotation.right)
        return f"{left} or {right}" if left and right else ""
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "" if value is None else "null"
    if isinstance(annotation, ast.Subscript):
        return _misfit_subscript(value, annotation)
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    if name == "Callable":
        return "" if _is_use(value) else "a section with 'use: <file>.<Name>'"
    if name in RANGES:
        types, test, text = RANGES[name]
        return "" if isinstance(value, types) and not isinstance(value, bool) and test(value) else text
    if name in PLAIN:
        fits = isinstance(value, PLAIN[name]) and (name == "bool" or not isinstance(value, bool))
        return "" if fits else PLAIN_TEXTS.get(name, f"of type {name}")
    return ""


def _misfit_subscript(value: Any, annotation: ast.Subscript) -> str:
    kind = ast.unparse(annotation.value)
    if kind == "Callable":
        return _misfit(value, annotation.value)
    if kind == "Literal":
        options = [ast.literal_eval(o) for o in getattr(annotation.slice, "elts", [annotation.slice])]
        return "" if value in options else f"one of {', '.join(map(str, options))}{suggest_name(str(value), options)}"
    if kind in ("list", "Sequence"):
        if not isinstance(value, list):
            items = ast.unparse(annotation.slice)
            return f"a list of {'sections' if items == 'Callable' else items}"
        wrong = next((w for item in value if (w := _misfit(item, annotation.slice))), "")
        return f"a list, each item {wrong}" if wrong else ""
    if kind == "dict":
        return "" if isinstance(value, dict) else "a mapping"
    return ""


# ------------------------------------------------------------------------------------------------ building


def build(section: dict[str, Any], **extra: Any) -> Any:
    """Calls what the section names by `use`; nested `use` sections arrive as factories (`functools.partial`)."""
    return _factory(section)(**extra)


def resolve_arguments(section: dict[str, Any]) -> dict[str, Any]:
    """A section without a `use` of its own, as keyword arguments."""
    return {key: _resolve(value) for key, value in section.items()}


def _factory(section: dict[str, Any]) -> partial:
    module, _, name = section["use"].rpartition(".")
    target = getattr(allowed.import_module(module), name)
    given = resolve_arguments({key: value for key, value in section.items() if key != "use"})
    inspect.signature(target).bind_partial(**given)
    return partial(target, **given)


def _resolve(value: Any) -> Any:
    if _is_use(value):
        return _factory(value)
    return [_resolve(item) for item in value] if isinstance(value, list) else value
