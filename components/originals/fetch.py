"""Original files: found in the raw folder, or fetched from their public address, and always checked by digest."""

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

Originals = dict[str, tuple[str, str]]  # file in the set's own raw folder -> (address, digest or "": not to be fetched)


def fetch_file(folder: str | Path, file: str, url: str, digest: str, wait_s: float = 1.0) -> Path:
    """The path of `folder/file`, downloaded from `url` if it is not there.

    `digest` is an MD5 (32 hexadecimal digits) or a SHA-256 (64). A file with another digest is refused and left alone.
    A download appears whole or not at all; it is tried ATTEMPTS times, `wait_s`, 2 `wait_s`, ... seconds apart.
    """
    path = Path(folder) / file
    if not path.exists():
        _download(url, path, digest, wait_s)
    elif (found := file_digest(path, digest)) != digest:
        raise Refusal(f"{path}: its digest is {found}, expected {digest}; replace it by the original from {url}")
    return path


def _download(url: str, path: Path, digest: str, wait_s: float) -> None:
    reason = ""
    with atomic_path(path, path.with_name(f"{path.name}.part-{os.getpid()}")) as draft:
        for attempt in range(ATTEMPTS):
            time.sleep(attempt * wait_s)
            try:
                _stream(url, draft)
                break
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {error.reason}"
                if error.code < 500 and error.code != 429:  # asking again won't help
                    raise Refusal(_missing(path, url, reason)) from None
            except (OSError, HTTPException) as error:
                reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        else:
            raise Refusal(_missing(path, url, reason))
        if (found := file_digest(draft, digest)) != digest:
            raise Refusal(f"{url}: what came has digest {found}, expected {digest}; put the original file at {path}")


def _missing(path: Path, url: str, reason: str) -> str:
    return f"{path}: missing, and not to be downloaded ({reason}); put the file there, its address is {url}"


def _stream(url: str, path: Path) -> None:
    """One attempt; raises OSError or HTTPException, also for an answer that ends early."""
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


def file_digest(path: Path, like: str) -> str:
    """MD5 or SHA-256 of a file, whichever the digest `like` is."""
    with path.open("rb") as file:
        if len(like) == 32:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()
