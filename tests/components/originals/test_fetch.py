"""Original files, fetched from a real (local) HTTP server that fails in the ways servers do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.errors import Refusal
from components.network import free_port
from components.originals import fetch
from components.originals.fetch import ATTEMPTS

# The servers of these tests speak http, on this machine
fetch_file = partial(fetch.fetch_file, from_loopback=True)
CONTENT = bytes(range(256)) * 5000
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[str] = []  # how to fail, one per request; afterwards it answers well
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        answer = self.server.answers.pop(0) if self.server.answers else "200"
        if answer == "hangs up":
            return
        if answer.startswith("moved to "):
            self.send_response(302)
            self.send_header("Location", answer.removeprefix("moved to "))
            self.end_headers()
            return
        if answer == "without a length":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)
            return
        self.send_response(200 if answer == "stops early" else int(answer))
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if answer in ("200", "stops early"):
            self.wfile.write(CONTENT if answer == "200" else CONTENT[: len(CONTENT) // 3])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.mark.parametrize("digest", [MD5, SHA256])
def test_a_missing_file_is_downloaded_once(tmp_path: Path, server: Server, digest: str) -> None:
    for _ in range(2):
        path = fetch_file(tmp_path / "new" / "folder", "file.bin", server.url, digest)
        assert path == tmp_path / "new" / "folder" / "file.bin"
        assert path.read_bytes() == CONTENT
    assert server.requests == 1


@pytest.mark.parametrize("answers", [["500"], ["503", "429"], ["stops early", "hangs up"]])
def test_temporary_failures_are_retried(tmp_path: Path, server: Server, answers: list[str]) -> None:
    server.answers = answers[:]
    assert fetch_file(tmp_path, "file.bin", server.url, MD5, wait_s=0.01).read_bytes() == CONTENT
    assert server.requests == len(answers) + 1
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    ("answers", "requests", "message"),
    [
        (["404"], 1, "HTTP 404"),
        (["stops early"] * ATTEMPTS, ATTEMPTS, "the answer ended after 426666 of 1280000 bytes"),
        (["500"] * ATTEMPTS, ATTEMPTS, "HTTP 500"),
    ],
)
def test_a_failed_download_tells_where_the_file_belongs(
    tmp_path: Path, server: Server, answers: list[str], requests: int, message: str
) -> None:
    server.answers = answers[:]
    with pytest.raises(Refusal) as refusal:
        fetch_file(tmp_path, "file.bin", server.url, MD5, wait_s=0.01)
    text = str(refusal.value)
    assert message in text
    assert f"{tmp_path / 'file.bin'}: missing" in text
    assert f"get the file from {server.url} and put it there" in text
    assert "\n" not in text
    assert server.requests == requests
    assert list(tmp_path.iterdir()) == []


def test_a_refused_connection_is_reported(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"file\.bin: missing, and the download failed .*refused"):
        fetch_file(tmp_path, "file.bin", f"http://127.0.0.1:{free_port()}/file.bin", MD5, wait_s=0.01)


def test_a_download_with_another_digest_is_deleted(tmp_path: Path, server: Server) -> None:
    with pytest.raises(Refusal, match=f"the download has digest {MD5}, expected {'0' * 32}"):
        fetch_file(tmp_path, "file.bin", server.url, "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    with pytest.raises(Refusal, match=r"file\.bin: its digest is .*; replace it by the original from http"):
        fetch_file(tmp_path, "file.bin", server.url, SHA256)
    assert (tmp_path / "file.bin").read_bytes() == b"mine"
    assert server.requests == 0


@pytest.mark.parametrize("answers", [[], ["without a length"]])
def test_a_download_has_a_limit(tmp_path: Path, server: Server, answers: list[str]) -> None:
    server.answers = answers * 2
    with pytest.raises(Refusal, match=r"file\.bin: more than 1,279,999 bytes; put the original file at"):
        fetch_file(tmp_path, "file.bin", server.url, MD5, max_bytes=len(CONTENT) - 1)
    assert list(tmp_path.iterdir()) == []
    assert server.requests == 1
    assert fetch_file(tmp_path, "file.bin", server.url, MD5, max_bytes=len(CONTENT)).is_file()


@pytest.mark.parametrize("address", ["http://host/file.bin", "ftp://host/file.bin", "file:///etc/passwd", "file.bin"])
def test_only_https_is_downloaded(tmp_path: Path, server: Server, address: str) -> None:
    with pytest.raises(Refusal, match=f"file.bin: missing, and {address} is not an https address"):
        fetch_file(tmp_path, "file.bin", address, MD5)
    server.answers = [f"moved to {address if '//' in address else f'http://{address}/'}"]
    with pytest.raises(Refusal, match=r"is not an https address|HTTP 302"):
        fetch_file(tmp_path, "file.bin", server.url, MD5)
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == []


def test_http_on_this_machine_must_be_allowed(tmp_path: Path, server: Server) -> None:
    with pytest.raises(Refusal, match="is not an https address"):
        fetch.fetch_file(tmp_path, "file.bin", server.url, MD5)
    assert server.requests == 0


def test_all_public_addresses_are_https() -> None:
    sources = [file.read_text() for file in Path("components/data").glob("*.py")]
    assert len(sources) > 15
    assert [source for source in sources if '"http://' in source] == []
