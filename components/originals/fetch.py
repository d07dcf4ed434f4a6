"""Original files: taken from the raw folder or downloaded from their public address, and checked by digest."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from ..errors import Refusal
from ..files import atomic_path

ATTEMPTS = 3
TIMEOUT_S = 30.0
CHUNK = 1 << 20

# File in the data set's raw folder -> (address, digest). Without a digest ("") the file is never downloaded.
Originals = dict[str, tuple[str, str]]


def fetch_file(folder: str | Path, file: str, url: str, digest: str, wait_s: float = 1.0) -> Path:
    """Return the path `folder/file`; download the file from `url` first if it is missing.

    digest: an MD5 (32 hexadecimal digits) or a SHA-256 (64). A file with another digest is refused and left alone.
    wait_s: a download is attempted ATTEMPTS times, with pauses of 1, 2, ... times this many seconds.

    A download is atomic: the file appears complete or not at all.
    """
    path = Path(folder) / file
    if not path.exists():
        _download(url, path, digest, wait_s)
        return path
    actual = file_digest(path, digest)
    if actual != digest:
        raise Refusal(f"{path}: its digest is {actual}, expected {digest}; replace it by the original from {url}")
    return path


def _download(url: str, path: Path, digest: str, wait_s: float) -> None:
    """Download `url` to `path`; refuses what cannot be downloaded or has another digest."""
    reason = ""
    with atomic_path(path, path.with_name(f"{path.name}.part-{os.getpid()}")) as draft:
        for attempt in range(ATTEMPTS):
            time.sleep(attempt * wait_s)
            try:
                _stream(url, draft)
                break
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {error.reason}"
                if error.code < 500 and error.code != 429:  # another attempt would get the same answer
                    raise Refusal(_missing(path, url, reason)) from None
            except (OSError, HTTPException) as error:
                reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        else:
            raise Refusal(_missing(path, url, reason))
        actual = file_digest(draft, digest)
        if actual != digest:
            raise Refusal(
                f"{url}: the download has digest {actual}, expected {digest}; put the original file at {path}"
            )


def _missing(path: Path, url: str, reason: str) -> str:
    """Return the error line for a file that is neither there nor can be downloaded."""
    return f"{path}: missing, and the download failed ({reason}); get the file from {url} and put it there"


def _stream(url: str, path: Path) -> None:
    """Make one attempt to download; raises OSError or HTTPException, also for an answer that ends early."""
    request = urllib.request.Request(url, headers={"User-Agent": "trainyard"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        # disable=None: a bar on a terminal, nothing in a log
        with tqdm(
            total=total or None, unit="B", unit_scale=True, desc=path.name.split(".part-")[0], disable=None
        ) as bar:
            while chunk := answer.read(CHUNK):
                bar.update(file.write(chunk))
        if total and file.tell() != total:
            raise OSError(f"the answer ended after {file.tell()} of {total} bytes")
        file.flush()
        os.fsync(file.fileno())


def file_digest(path: Path, expected: str) -> str:
    """Return the MD5 or SHA-256 of a file, whichever has the length of the digest `expected`."""
    with path.open("rb") as file:
        if len(expected) == 32:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()
