"""Original files: taken from the raw folder or downloaded from their public address, and checked by digest."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from ..errors import Refusal
from ..files import atomic_path, open_regular

ATTEMPTS = 3
TIMEOUT_S = 30.0
CHUNK = 1 << 20
MAX_DOWNLOAD = 1 << 30  # bytes; the largest original file has 170 MB

# File in the data set's raw folder -> (address, digest). Without a digest ("") the file is never downloaded.
Originals = dict[str, tuple[str, str]]


def fetch_file(
    folder: str | Path,
    file: str,
    url: str,
    digest: str,
    wait_s: float = 1.0,
    max_bytes: int = MAX_DOWNLOAD,
    from_loopback: bool = False,
) -> Path:
    """Return the path `folder/file`; download the file from `url` first if it is missing.

    digest: an MD5 (32 hexadecimal digits) or a SHA-256 (64). A file with another digest is refused and left alone.
    wait_s: a download is attempted ATTEMPTS times, with pauses of 1, 2, ... times this many seconds.
    max_bytes: a larger download is refused.
    from_loopback: http is allowed from this machine, for tests; otherwise, https is required, after redirects too.

    A download is atomic: the file appears complete or not at all.
    """
    path = Path(folder) / file
    if not path.exists():
        _download(url, path, digest, wait_s, max_bytes, from_loopback)
        return path
    actual = file_digest(path, digest)
    if actual != digest:
        raise Refusal(f"{path}: its digest is {actual}, expected {digest}; replace it by the original from {url}")
    return path


def _download(url: str, path: Path, digest: str, wait_s: float, max_bytes: int, from_loopback: bool) -> None:
    """Download `url` to `path`; refuses what cannot be downloaded or has another digest."""
    reason = ""
    guard = _HTTPSOnly(path, from_loopback)
    guard.check(url)
    with atomic_path(path, path.with_name(f"{path.name}.part-{os.getpid()}")) as draft:
        for attempt in range(ATTEMPTS):
            time.sleep(attempt * wait_s)
            try:
                _stream(url, draft, guard, max_bytes)
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


class _HTTPSOnly(urllib.request.HTTPRedirectHandler):
    """A handler of redirects that refuses any address without https."""

    def __init__(self, path: Path, from_loopback: bool) -> None:
        self.path = path
        self.from_loopback = from_loopback

    def check(self, url: str) -> None:
        """Refuse an address that is neither https nor, where allowed, http on this machine."""
        parts = urlsplit(url)
        is_local = self.from_loopback and parts.scheme == "http" and parts.hostname == "127.0.0.1"
        if parts.scheme != "https" and not is_local:
            raise Refusal(f"{self.path}: missing, and {url} is not an https address; get the file and put it there")

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        """Return the request that follows a redirect; `arguments` are those of urllib, the new address last."""
        self.check(arguments[-1])
        return super().redirect_request(*arguments)


def _stream(url: str, path: Path, guard: _HTTPSOnly, max_bytes: int) -> None:
    """Make one attempt to download; raises OSError or HTTPException, also for an answer that ends early.

    Refuses more than `max_bytes` before they are on the disk.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "trainyard"})
    opener = urllib.request.build_opener(guard)
    with opener.open(request, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length") or ""
        total = int(length) if length.isdecimal() else 0
        too_large = Refusal(f"{url}: more than {max_bytes:,} bytes; put the original file at {guard.path}")
        if total > max_bytes:
            raise too_large
        # disable=None: a bar on a terminal, nothing in a log
        with tqdm(
            total=total or None, unit="B", unit_scale=True, desc=path.name.split(".part-")[0], disable=None
        ) as bar:
            while chunk := answer.read(CHUNK):
                bar.update(file.write(chunk))
                if file.tell() > max_bytes:
                    raise too_large
        if total and file.tell() != total:
            raise OSError(f"the answer ended after {file.tell()} of {total} bytes")
        file.flush()
        os.fsync(file.fileno())


def file_digest(path: Path, expected: str) -> str:
    """Return the MD5 or SHA-256 of a file, whichever has the length of the digest `expected`."""
    with open_regular(path) as file:
        if len(expected) == 32:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()
