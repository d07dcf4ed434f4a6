"""Files below a folder or in a tar archive, by name: data sets read both in the same way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..errors import Refusal
from ..files import open_regular
from ..originals.archive import combined_digest, read_members
from .folder import SERVICE_FOLDERS, list_files
from .image_folder import SPLIT_NAMES
from .picture import SUFFIXES

READ = {*SUFFIXES, ".json", ".txt", ".xml"}
ARCHIVE = re.compile(r"\.(tar|tgz|tbz2|txz)(\.\w+)?$")
YEAR = re.compile(r"\d{4}$")
MAX_FILE = 256 << 20  # bytes
MAX_ARCHIVE = 1 << 30  # bytes unpacked, all of which stay in memory
# Names that cannot lead out of the folder; those with a part that starts with a dot are skipped.
PLAIN = re.compile(r"(?:\./)?((?:[^/.\0][^/\0]*/)*[^/.\0][^/\0]*)")


class FileTree:
    """Pictures, XML, JSON and text files of a folder, or of a tar archive (.gz, .bz2, .xz), which is read into memory.

    A folder with nothing but an archive counts as that archive. Hidden files, and those that programs put beside
    pictures, are passed over. suffixes: of the files that are listed.
    """

    def __init__(self, folder: str | Path, suffixes: Collection[str] = READ) -> None:
        self.folder = Path(folder)
        self.suffixes = suffixes

    @cached_property
    def path(self) -> Path:
        """Return the folder or the archive; refuses a missing one."""
        if not self.folder.exists():
            raise Refusal(f"{self.folder}: missing; put the folder of pictures, or a tar archive of it, there")
        if self.folder.is_dir():
            entries = [entry for entry in self.folder.iterdir() if not entry.name.startswith(".")]
            if len(entries) == 1 and ARCHIVE.search(entries[0].name) and entries[0].is_file():
                return entries[0]
        return self.folder

    @cached_property
    def names(self) -> list[str]:
        """Return the names of all files, relative to the folder, sorted."""
        if not self.path.is_dir():
            return sorted(self._members)
        return [file.relative_to(self.path).as_posix() for file in list_files(self.path, self.suffixes).files]

    def read(self, name: str) -> bytes:
        """Return the content of a file; refuses one of more than MAX_FILE bytes."""
        if not self.path.is_dir():
            return self._members[name]
        with open_regular(self.path / name) as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise Refusal(f"{self.place(name)}: has more than {MAX_FILE >> 20} MB; shrink or remove it")
        return content

    def place(self, name: str) -> str:
        """Return the name of a file for error messages and lists."""
        return f"{self.path / name}" if self.path.is_dir() else f"{self.path}: {name}"

    def check_digest(self, expected: str) -> None:
        """Refuse a tree whose names and contents have another digest than `expected`, a SHA-256."""
        digest = combined_digest({name: hashlib.sha256(self.read(name)).hexdigest() for name in self.names})
        if digest != expected:
            raise Refusal(
                f"{self.path}: the digest of its {len(self.names)} files is {digest}, expected {expected};"
                " take the original files, or change sha256"
            )

    @cached_property
    def _members(self) -> dict[str, bytes]:
        members = read_members(self.path, PLAIN, MAX_FILE, MAX_ARCHIVE)
        return {match[1]: content for match, content in members if _is_read(match[1], self.suffixes)}


def _is_read(name: str, suffixes: Collection[str]) -> bool:
    """Return whether a member of an archive is one of the files that are read."""
    *folders, _ = name.lower().split("/")
    return Path(name).suffix.lower() in suffixes and not SERVICE_FOLDERS.intersection(folders)


def split_of(picture: str) -> str | None:
    """Return the split that a folder of a picture's path names, such as train2017, or None."""
    words = [YEAR.sub("", part.lower()) for part in PurePosixPath(picture).parts[:-1]]
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)
