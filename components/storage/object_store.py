"""Immutable objects below one address, in an object store or in a folder: `s3://bucket/prefix`, `/mnt/data/parts`.

PyArrow's file systems do the work. Keys and endpoints come from the environment, as for other tools:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from ..errors import Refusal, TryLater, first_line

SCHEMES = ("s3", "gs", "abfs", "file")
PATIENCE = 300.0  # seconds for which a store that fails is asked again
PAUSES = (0.2, 8.0)  # seconds between two attempts: at first, and at most; each pause doubles
CHUNK = 16 << 20  # bytes per request
LASTING = re.compile(
    r"ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE|No such bucket|bucket .* not found"
    # a token that has expired or is invalid; S3 gives no reason where it answers without a body
    r"|REQUEST_EXPIRED|INVALID_CLIENT_TOKEN|token .*(expired|invalid)|HTTP status 400\) during Head",
    re.I,
)
Result = TypeVar("Result")
log = logging.getLogger(__name__)


def check_address(address: Any) -> str:
    """Return the address of an object store without a slash at its end; refuse what is not one."""
    scheme, separator, rest = str(address).partition("://")
    if not isinstance(address, str) or not (
        (separator and scheme in SCHEMES and rest.strip("/")) or address[:1] == "/"
    ):
        raise Refusal(f"store: {address!r} is not an address; write s3://bucket/prefix, or the full path of a folder")
    if separator and ("@" in rest or "?" in rest):
        raise Refusal("store: keys and options do not belong into an address; set AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL")
    return address.rstrip("/")


class Missing(Refusal):
    """An object is not in the store."""


class ObjectStore:
    """The objects below an address; each call is repeated while the store fails, for `patience` seconds (PATIENCE)."""

    def __init__(self, address: str, patience: float | None = None) -> None:
        self.address = check_address(address)
        self.patience = PATIENCE if patience is None else patience

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes, or None if there is none."""

        def ask(files: Any, root: str) -> int | None:
            info = files.get_file_info(f"{root}/{name}")
            return info.size if info.is_file else None

        return self._repeat(name, ask)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return {name: bytes} of the objects directly below `folder`."""

        def ask(files: Any, root: str) -> dict[str, int]:
            from pyarrow.fs import FileSelector

            infos = files.get_file_info(FileSelector(f"{root}/{folder}".rstrip("/"), allow_not_found=True))
            return {info.base_name: info.size for info in infos if info.is_file}

        return self._repeat(folder, ask)

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of an object from `start` on, or fewer at its end."""

        def ask(files: Any, root: str) -> bytes:
            with files.open_input_file(f"{root}/{name}") as file:
                content: bytes = file.read_at(length, start)
                return content

        return self._repeat(name, ask)

    def fetch(self, name: str, file: Path, size: int) -> str:
        """Write an object of `size` bytes to a file, and return the SHA-256 of what arrived."""
        digest = hashlib.sha256()
        with file.open("wb") as target:
            for start in range(0, size, CHUNK):
                chunk = self.read(name, start, min(CHUNK, size - start))
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        return digest.hexdigest()

    def write(self, name: str, content: Path | bytes) -> None:
        """Store a file, or bytes, under `name`; readers see all of it or nothing."""

        def send(files: Any, root: str) -> None:
            # Object stores show an object when it is complete; a folder shows a file while it grows.
            place = f"{root}/{name}"
            draft = f"{root}/.{Path(name).name}.{os.getpid()}" if files.type_name == "local" else place
            if files.type_name == "local":
                files.create_dir(str(Path(place).parent))
            opened = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            with opened as source, files.open_output_stream(draft) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
            if draft != place:
                files.move(draft, place)

        self._repeat(name, send)

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""

        def ask(files: Any, root: str) -> None:
            if files.get_file_info(f"{root}/{name}").is_file:
                files.delete_file(f"{root}/{name}")

        self._repeat(name, ask)

    def _repeat(self, name: str, request: Callable[[Any, str], Result]) -> Result:
        """Return the result of `request`; repeat it while the store fails.

        Raise Refusal for a fault that lasts, and TryLater when patience ends.
        """
        place = f"{self.address}/{name}"
        began, pause = time.monotonic(), PAUSES[0]
        while True:
            try:
                return request(*_connect(self.address, os.getpid()))
            except FileNotFoundError:
                raise Missing(
                    f"{place}: not in the store; prepare the data again (dvc repro --force prepare)"
                ) from None
            except OSError as error:
                reason = first_line(error)
                if isinstance(error, PermissionError) or LASTING.search(str(error)):
                    raise Refusal(f"{place}: {reason}; check the address and the keys (AWS_ACCESS_KEY_ID)") from None
                if time.monotonic() - began > self.patience:
                    raise TryLater(f"{place}: the store has failed for {self.patience:.0f} s ({reason})") from None
                log.warning("%s: %s; asked again in %.1f s", place, reason, pause)
            time.sleep(pause)
            pause = min(2 * pause, PAUSES[1])


@lru_cache(maxsize=8)
def _connect(address: str, process: int) -> tuple[Any, str]:
    """Return (file system, path below which the objects are), once per process: connections do not survive a fork."""
    from pyarrow.fs import FileSystem

    files, root = FileSystem.from_uri(address)
    return files, root.rstrip("/")
