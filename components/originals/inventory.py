"""List the original files that data sets read: which exist, which are missing or damaged, which a recipe needs.

Parses the sources in components/data for their `originals` (see storage/dataset.py); no data set is imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Refusal
from ..recipes import recipe
from ..workspace import RAW
from .archive import read_members
from .fetch import file_digest

DATASET_FOLDER = Path(__file__).parent.parent / "data"
MAX_HASHED = 64 << 20  # bytes: larger files are not hashed, so that the check stays quick
# An archive without a digest is unpacked instead, up to this many bytes of file and of content
MAX_ARCHIVE = 16 << 20
MAX_CONTENT = 128 << 20


@dataclass
class OriginalsStatus:
    """The original files of one data set in one raw folder."""

    folder: Path
    downloadable: bool
    addresses: dict[Path, str] = field(default_factory=dict)
    missing: list[Path] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    needed: list[Path] = field(default_factory=list)


def list_originals(path: str) -> Iterator[OriginalsStatus]:
    """Yield the status of every data set with originals; needed are those that the recipe or params in `path` name."""
    sections = list(_callable_sections(recipe.load(path))) if Path(path).is_file() else []
    for file in sorted(DATASET_FOLDER.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = dict(_constants(tree, {}))
        for node in tree.body:
            if not isinstance(node, ast.ClassDef):
                continue
            facts = dict(_constants(node, constants))
            if "originals" not in facts:
                continue
            users = [section for section in sections if section["use"] == f"data.{file.stem}.{node.name}"]
            raw_folders = dict.fromkeys(Path(str(section.get("raw", RAW))) for section in users or [{}])
            for raw in raw_folders:
                yield _check_originals(raw / facts.get("raw_folder", facts.get("name", "")), facts, users)


def _check_originals(folder: Path, facts: dict[str, Any], users: list[dict[str, Any]]) -> OriginalsStatus:
    """Return the status of one data set: `facts` are its class's constants, `users` the sections that name it."""
    originals = facts["originals"]
    status = OriginalsStatus(folder, downloadable=all(digest for _, digest in originals.values()))
    arguments = {str(value) for section in users for value in _argument_values(section)}
    for name, (address, digest) in originals.items():
        path = folder / name
        status.addresses[path] = address
        if users and (not facts.get("by_name") or {name, name.partition("/")[0]} & arguments):
            status.needed.append(path)
        if path.is_file():
            if not _is_intact(path, digest):
                status.damaged.append(path)
        elif not any(any(folder.glob(pattern)) for pattern in facts.get("instead", [])):
            status.missing.append(path)
    return status


def _is_intact(path: Path, digest: str) -> bool:
    """Check a file by its digest, or an archive without one by unpacking it; large files pass unread."""
    if digest:
        return path.stat().st_size > MAX_HASHED or file_digest(path, digest) == digest
    if path.stat().st_size > MAX_ARCHIVE:
        return True
    try:
        list(read_members(path, re.compile("(?!)"), MAX_ARCHIVE, MAX_CONTENT))
    except Refusal:
        return False
    return True


def _callable_sections(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the sections that name a callable under `use`, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get("use"), str):
            yield value
        for item in value.values():
            yield from _callable_sections(item)
    elif isinstance(value, list):
        for item in value:
            yield from _callable_sections(item)


def _argument_values(section: dict[str, Any]) -> Iterator[Any]:
    """Yield the values of a section; those of a list one by one."""
    for value in section.values():
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _constants(node: ast.Module | ast.ClassDef, outer: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the assignments in a body whose values are literals, or texts made of earlier ones."""
    constants = dict(outer)
    for item in node.body:
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            target = item.targets[0] if isinstance(item, ast.Assign) else item.target
            with suppress(ValueError):
                value = ast.literal_eval(_Constants(constants).visit(item.value))
                constants[ast.unparse(target)] = value
                yield ast.unparse(target), value


class _Constants(ast.NodeTransformer):
    """Replace names of constants by their values, and f-strings of such names by plain texts."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return the constant of this name."""
        return ast.Constant(self.values[node.id]) if isinstance(self.values.get(node.id), str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        """Return the text of an f-string whose parts are all constants."""
        parts = [self.visit(part.value) if isinstance(part, ast.FormattedValue) else part for part in node.values]
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        return ast.Constant("".join(map(str, values))) if len(values) == len(parts) else node
