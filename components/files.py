"""Write files and folders atomically, and compute their digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from .errors import Refusal

MAX_JSON = 64 << 20  # bytes
DERIVED = {"manifest.json", "statistics.json", "preview.png"}  # files beside the parts of prepared data


@contextmanager
def atomic_path(path: Path, draft: Path | None = None) -> Iterator[Path]:
    """Yield the path of a draft, a file or a folder, that takes the place of `path` when the block ends.

    Readers see all of the new content or none of it, whenever the writer is killed. The draft is deleted if the block
    raises. The folder above `path` is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Replace the file at `path` by one that holds `value`, and flush both the content and the new name to the disk."""
    with atomic_path(Path(path)) as draft:
        write_through(draft, f"{json.dumps(value, indent=2)}\n".encode())
    sync_folder(Path(path).parent)


def read_object(path: str | Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise ValueError, in one line, for any other content."""
    with open_regular(path) as file:
        content = file.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise ValueError(f"more than {MAX_JSON >> 20} MB")
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def check_fields(record: dict[str, Any], kinds: dict[str, type]) -> None:
    """Raise ValueError, in one line, if a field is missing from a record or is not of exactly the type in `kinds`."""
    for name, kind in kinds.items():
        if name not in record:
            raise ValueError(f"has no '{name}'")
        if type(record[name]) is not kind:
            raise ValueError(f"'{name}' is not of type {kind.__name__}")


def write_through(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file for reading; refuse a pipe or a device, which may never end."""
    if not Path(path).is_file() and Path(path).exists():
        raise Refusal(f"{path}: is not a regular file; replace or remove it")
    return Path(path).open("rb")


def path_digest(path: str | Path) -> str:
    """Return the digest in the manifest of a prepared data set, or the `bytes_digest` of any other file or folder.

    The manifest is believed, without reading the parts, only in a folder of parts that it lists (`_is_prepared`). Use
    `bytes_digest` where somebody may have changed the bytes: `Store.verify` checks prepared data.
    """
    folder = Path(path)
    manifest = folder / "manifest.json"
    if manifest.is_file():
        try:
            content = read_object(manifest)
        except ValueError as error:
            raise Refusal(f"{manifest}: damaged ({error}); run the stage that writes it (dvc repro)") from None
        if "digest" in content and _is_prepared(folder, content):
            return str(content["digest"])
    return bytes_digest(path)


def _is_prepared(folder: Path, manifest: dict[str, Any]) -> bool:
    """Return whether a folder holds the Arrow files that its manifest lists, and nothing else but DERIVED files.

    Files in an object store are not in the folder.
    """
    try:
        splits = {} if "store" in manifest else manifest["splits"]
        parts = {str(part["file"]) for split in splits.values() for part in split["parts"]}
    except (KeyError, TypeError, AttributeError):
        return False
    names = {str(file.relative_to(folder)) for file in folder.rglob("*")}
    derived = DERIVED | {f"{split}-contents.npy" for split in manifest["splits"]}
    derived |= {f"tokenizer-{column}.json" for column in manifest.get("tokenizers", {})}
    return names - derived == parts and all(name.endswith(".arrow") for name in parts)


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
