"""The original files that data sets read: which there are, which are here, and which a recipe needs.

Read from the sources of components/data (`originals`, see its dataset.py), for the doctor: nothing is imported.
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
READ = 64 << 20  # bytes of a file that are worth reading to check its digest
UNPACKED = 16 << 20  # of an archive that is worth unpacking, where only its content has a digest ...
CONTENT = 128 << 20  # ... and of what comes out


@dataclass
class OriginalsStatus:
    """Of one data set, as its source and this folder say; `addresses` by path."""

    folder: Path
    downloadable: bool
    addresses: dict[Path, str] = field(default_factory=dict)
    missing: list[Path] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    needed: list[Path] = field(default_factory=list)


def list_originals(path: str) -> Iterator[OriginalsStatus]:
    """Every set's; needed are those that the params or the recipe in `path` name."""
    sections = list(_sections(recipe.load(path))) if Path(path).is_file() else []
    for file in sorted(DATASET_FOLDER.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            facts = dict(_constants(node)) if isinstance(node, ast.ClassDef) else {}
            if isinstance(node, ast.ClassDef) and "originals" in facts:
                users = [section for section in sections if section["use"] == f"data.{file.stem}.{node.name}"]
                for raw in dict.fromkeys(Path(str(section.get("raw", RAW))) for section in users or [{}]):
                    yield _looked_at(raw / facts["name"], facts, users)


def _looked_at(folder: Path, facts: dict[str, Any], users: list[dict[str, Any]]) -> OriginalsStatus:
    seen = OriginalsStatus(folder, downloadable=all(digest for _, digest in facts["originals"].values()))
    named = {str(value) for section in users for value in _texts(section)}
    for name, (address, digest) in facts["originals"].items():
        path = folder / name
        seen.addresses[path] = address
        seen.needed += [path] if users and (name in named or not facts.get("by_name")) else []
        if path.is_file():
            seen.damaged += [] if _whole(path, digest) else [path]
        elif not any(any(folder.glob(other)) for other in facts.get("instead", [])):
            seen.missing.append(path)
    return seen


def _whole(path: Path, digest: str) -> bool:
    """As far as it can be told in a moment."""
    if digest:
        return path.stat().st_size > READ or file_digest(path, digest) == digest
    try:
        if path.stat().st_size <= UNPACKED:
            list(read_members(path, re.compile("(?!)"), UNPACKED, CONTENT))
    except Refusal:
        return False
    return True


def _sections(value: Any) -> Iterator[dict[str, Any]]:
    """Those that name a callable."""
    if isinstance(value, dict) and isinstance(value.get("use"), str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _sections(item)


def _texts(section: dict[str, Any]) -> Iterator[Any]:
    for value in section.values():
        yield from value if isinstance(value, list) else [value]


def _constants(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """The class's attributes whose values can be read without running it."""
    for item in node.body:
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            target = item.targets[0] if isinstance(item, ast.Assign) else item.target
            with suppress(ValueError):
                yield ast.unparse(target), ast.literal_eval(item.value)
