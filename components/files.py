"""Write JSON files atomically, and compute the digests of files and folders."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` atomically, creating its folder; a killed writer leaves the old file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)


def path_digest(path: str | Path) -> str:
    """Return the digest in the manifest of a prepared data set, or the `bytes_digest` of any other file or folder."""
    manifest = Path(path) / "manifest.json"
    content = json.loads(manifest.read_text()) if manifest.is_file() else {}
    return str(content["digest"]) if "digest" in content else bytes_digest(path)


def bytes_digest(path: str | Path) -> str:
    """Return the SHA-256 over the name and bytes of a file, or of all files in a folder."""
    place = Path(path)
    if place.is_dir():
        return files_digest(place.parent, [file for file in place.rglob("*") if file.is_file()])
    return files_digest(place.parent, [place])


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """Return the SHA-256 over the bytes of `files` and their paths relative to `root`."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(root)}\0{content}\n".encode())
    return digest.hexdigest()
