"""Recipes: YAML files in which each section holds the keyword arguments of one callable.

    task:
      use: tasks.classification.Classification     # a dotted path below `components`
      model: {use: models.lenet.LeNet}             # a nested `use` becomes a factory that its owner calls
    fit: {epochs: 10, batch: 128}                  # keyword arguments of `components.training.engine.fit`

A section is checked against the callable's signature, which is read from the *source* (signature.py). An unknown name
is refused with a suggestion; a value must fit the annotation, and the range of an annotation from `ranges.py`. Only
callables below `components` and those of packages that TRAINYARD_ALLOW names (allowed.py) can be used.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
from collections.abc import Collection
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ..errors import Refusal, suggest_name
from . import allowed, slots
from .signature import Argument, describe_misfit, is_called_without_arguments, is_use, read_signature

# ------------------------------------------------------------------------------------------------ reading

MAX_BYTES = 64 << 10
MAX_DEPTH = 24
MAX_NODES = 10_000  # keys and values, once for each alias


def load(path: str | Path) -> dict[str, Any]:
    """Return the YAML mapping in `path`; refuse a duplicate key or broken syntax with its line."""
    path = Path(path)
    if not path.is_file():
        remedy = "name a YAML file such as params.yaml"
        if path == Path("params.yaml"):
            remedy = "run trainyard in the root of the repository"
        raise Refusal(f"{path}: no such recipe; {remedy}")
    if path.stat().st_size > MAX_BYTES:
        raise Refusal(f"{path}: has more than {MAX_BYTES >> 10} kB, too much for a recipe; shorten it")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_BoundedLoader)
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


class _BoundedLoader(yaml.SafeLoader):
    """SafeLoader with limits, which refuses duplicate keys and reads 1e-3 as a number.

    The limits are those of the content with every alias replaced by a copy: 500 bytes of aliases can stand for 1 GB.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_document(self, node: yaml.Node) -> Any:
        _check_extent(node, {})
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(
                    problem="a key must be a string; put it in quotes", problem_mark=key.start_mark
                )
            if key.value in keys:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' appears twice", problem_mark=key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        # such as the date 2024-13-45, or what an explicit tag makes of `!!bool 7` and `!!timestamp soon`
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            problem = f"{str(node.value)[:40]!r} cannot be read as {node.tag.rpartition(':')[2]} ({error})"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
        if isinstance(value, int) and value.bit_length() > 64:
            raise yaml.MarkedYAMLError(problem="a number of more than 64 bits", problem_mark=node.start_mark)
        return value


def _check_extent(node: yaml.Node, extents: dict[yaml.Node, tuple[int, int]]) -> tuple[int, int]:
    """Return (nodes, depth) of a node with its aliases expanded; refuse too many, and an alias inside its own anchor.

    extents: the results so far, (0, 0) for nodes that are not finished.
    """
    if node in extents:
        count, depth = extents[node]
        if not count:
            raise yaml.MarkedYAMLError(problem="an alias inside its own anchor", problem_mark=node.start_mark)
        return count, depth
    extents[node] = (0, 0)
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    children = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
    inner = [_check_extent(child, extents) for child in children]
    count = 1 + sum(nodes for nodes, _ in inner)
    depth = 1 + max((depth for _, depth in inner), default=0)
    if count > MAX_NODES or depth > MAX_DEPTH:
        problem = f"more than {MAX_NODES:,} values, or {MAX_DEPTH} deep, with its aliases"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    extents[node] = (count, depth)
    return count, depth


# YAML 1.1 reads 1e-3 as a text, which is not what people mean
_BoundedLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def overlay(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `recipe` with dotted keys replaced: `{"task.optimizer.lr": 0.1}`; their sections must exist."""
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
    """Return the SHA-256 (hexadecimal) of a JSON-serialisable value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def flatten(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections as dotted keys, in order, the form that MLflow and DVC show."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def possible_paths(section: dict[str, Any]) -> list[str]:
    """Return the texts in a section that may name a file or folder, such as another recipe's model."""
    return [value for value in flatten(section).values() if isinstance(value, str) and "/" in value]


# ------------------------------------------------------------------------------------------------ checking


def check_sections(recipe: dict[str, Any], sections: dict[str, bool], where: str) -> None:
    """Refuse a section that is not among `sections`, and a missing one whose value there is True (required)."""
    if not isinstance(recipe, dict):
        raise Refusal(f"{where}: must be a mapping with {', '.join(sections)}; see params.yaml")
    for name in recipe:
        if name not in sections:
            raise Refusal(
                f"{where}: unknown section '{name}'{suggest_name(name, sections)}; allowed are: {', '.join(sections)}"
            )
    for name, required in sections.items():
        if required and name not in recipe:
            raise Refusal(f"{where}: section '{name}' is missing; see params.yaml for an example")


def check_values(section: dict[str, Any], ranges: dict[str, str], where: str) -> None:
    """Check values of a section that names no callable against annotations, such as `Count` or `list[str]`."""
    for name, kind in ranges.items():
        if name in section and (expected := describe_misfit(section[name], ast.parse(kind, mode="eval").body)):
            raise Refusal(f"{where}.{name}: must be {expected}, not {section[name]!r}")


def check_use(section: Any, where: str, kind: str, complete: bool = False, owned: Collection[str] = ()) -> None:
    """Check a section that names its callable by `use`, and every `use` inside it.

    kind: of the slot in which the section stands, such as "Task" or "Dataset" (slots.py).
    complete: the owner adds no arguments, so no required argument may be missing. owned: keys that the owner reads.
    """
    if not isinstance(section, dict) or not isinstance(section.get("use"), str):
        raise Refusal(f"{where}: needs 'use: <file>.<Name>', a dotted path below components/")
    try:
        slots.check_source(section["use"], kind)
    except Refusal as refusal:
        raise Refusal(f"{where}.{refusal}") from None
    arguments = {key: value for key, value in section.items() if key != "use"}
    check_arguments(section["use"], arguments, where, complete, owned)


def check_arguments(path: str, arguments: Any, where: str, complete: bool = False, owned: Collection[str] = ()) -> None:
    """Check `arguments` against the callable at `path`; those before a `*` in its signature are for its owner.

    complete, owned: as for `check_use`.
    """
    if not isinstance(arguments, dict):
        raise Refusal(f"{where}: must be a mapping of arguments of {path}, not {arguments!r}")
    try:
        signature = read_signature(path)
    except Refusal as refusal:
        raise Refusal(f"{where}.{refusal}") from None
    allowed_arguments = {name: a for name, a in signature.items() if a.keyword_only} or signature
    for name, value in arguments.items():
        if name in owned:
            continue
        if name not in allowed_arguments:
            names = [*allowed_arguments, *owned]
            options = ", ".join(names) or "none"
            hint = suggest_name(name, names)
            raise Refusal(f"{where}.{name}: {path} has no such argument{hint}; it has: {options}")
        _check_value(value, allowed_arguments[name].annotation, f"{where}.{name}")
    if complete:
        for name, argument in allowed_arguments.items():
            if argument.default is None and name not in arguments:
                raise Refusal(f"{where}: '{name}' is missing; {path} needs it")


def _check_value(value: Any, annotation: ast.expr | None, where: str) -> None:
    """Check the value of one argument, and every `use` inside it."""
    if is_use(value):
        check_use(value, where, slots.read_kind(annotation), complete=is_called_without_arguments(annotation))
    if annotation is not None and (expected := describe_misfit(value, annotation)):
        raise Refusal(f"{where}: must be {expected}, not {value!r}")
    for index, item in enumerate(value if isinstance(value, list) else []):
        if is_use(item):
            check_use(item, f"{where}[{index}]", slots.read_kind(annotation))


def fill_defaults(path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return `arguments` with the defaults of the callable's other keyword-only ones, which must be literals."""
    signature = read_signature(path)
    defaults = {name: a.default for name, a in signature.items() if a.keyword_only and a.default is not None}
    return {name: ast.literal_eval(default) for name, default in defaults.items()} | arguments


# ------------------------------------------------------------------------------------------------ building


def build(section: dict[str, Any], kind: type, **extra: Any) -> Any:
    """Call what the section names by `use`; nested `use` sections arrive as factories (`functools.partial`).

    kind: the class, or the protocol, that the section's slot asks for, such as Task or Dataset. Raise Refusal where
    the section, or one inside it, names anything else (slots.py): recipes and exported models come from strangers.
    """
    return _factory(section, kind.__name__, kind)(**extra)


def resolve_arguments(section: dict[str, Any], path: str) -> dict[str, Any]:
    """Return a section without a `use` of its own as keyword arguments of the callable at `path`."""
    signature = read_signature(path)
    owner = allowed.import_module(path.rpartition(".")[0])
    return _resolve_all(section, signature, owner.__name__)


def _factory(section: dict[str, Any], kind: str, base: Any) -> partial:
    """Return a callable of the slot's kind with the section's arguments; base: the class of that kind, if any."""
    path = section["use"]
    slots.check_source(path, kind)
    module, _, name = path.rpartition(".")
    target = getattr(allowed.import_module(module), name)
    slots.check_object(target, path, kind, base)
    arguments = {key: value for key, value in section.items() if key != "use"}
    arguments = _resolve_all(arguments, read_signature(path), target.__module__)
    try:
        inspect.signature(target).bind_partial(**arguments)
    except TypeError as error:
        raise Refusal(f"{path}: {error}; leave it out, or use the code that wrote it") from None
    return partial(target, **arguments)


def _resolve_all(arguments: dict[str, Any], signature: dict[str, Argument], module: str) -> dict[str, Any]:
    """Return arguments with their `use` sections as factories; module: where their annotations have a meaning."""
    annotations = {name: argument.annotation for name, argument in signature.items()}
    return {key: _resolve(value, slots.read_kind(annotations.get(key)), module) for key, value in arguments.items()}


def _resolve(value: Any, kind: str, module: str) -> Any:
    if is_use(value):
        return _factory(value, kind, slots.find_base(kind, module))
    return [_resolve(item, kind, module) for item in value] if isinstance(value, list) else value
