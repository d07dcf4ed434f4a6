"""An S3 server on loopback (moto), and a proxy in front of it that fails in the ways real stores fail."""

from __future__ import annotations

import http.client
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components import network
from tests.services import run_process, wait_for
from tests.workspace import BIN

BUCKET = "parts"
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def serve_objects(folder: Path) -> Iterator[int]:
    """Run an S3 server with an empty bucket BUCKET while the block runs; yield its port."""
    port = network.free_port()
    command = [str(BIN / "moto_server"), "--host=127.0.0.1", f"--port={port}"]
    with run_process(command, folder / "moto.log", dict(os.environ)) as process:
        wait_for(process, port, folder / "moto.log")
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield port


class FaultyProxy(socketserver.ThreadingTCPServer):
    """A server that passes bytes on to the S3 server at the port `upstream`, unless a fault is due.

    faults: what happens to the next requests that read parts, in order. slow: seconds before each of them.
    has_expired: refuse all requests as S3 does when the keys have expired.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream = upstream
        self.faults: list[str] = []
        self.slow = 0.0
        self.has_expired = False
        self.reads = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        """Return the address for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up."""

    def next_fault(self) -> str:
        """Count a request that reads a part, and return its fault or an empty text."""
        with self.lock:
            self.reads += 1
            return self.faults.pop(0) if self.faults else ""


class _Connection(socketserver.BaseRequestHandler):
    """One connection of a client: requests go up, answers come down, one after the other."""

    server: FaultyProxy
    fault = ""

    def handle(self) -> None:
        """Relay until one side hangs up."""
        with socket.create_connection(("127.0.0.1", self.server.upstream)) as upstream:
            threading.Thread(target=self._relay_answers, args=(upstream,), daemon=True).start()
            while data := self.request.recv(1 << 16):
                if self.server.has_expired:
                    head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(EXPIRED)
                    self.request.sendall(head + (b"" if data.startswith(b"HEAD ") else EXPIRED))
                    break
                if data.startswith(b"GET ") and b"range: bytes" in data.lower():
                    self.fault = self.server.next_fault()
                    time.sleep(self.server.slow)
                    if self.fault == "hang up":
                        break
                    if self.fault == "busy":
                        self.request.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
                        continue
                upstream.sendall(data)
            with suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)

    def _relay_answers(self, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := upstream.recv(1 << 16):
                has_body = not data.endswith(b"\r\n\r\n")
                if self.fault == "corrupt" and has_body:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                    self.fault = ""
                if self.fault == "cut" and has_body:
                    self.request.sendall(data[: -len(data) // 4])
                    self.request.shutdown(socket.SHUT_RDWR)
                    return
                self.request.sendall(data)


@contextmanager
def faulty_proxy(upstream: int) -> Iterator[FaultyProxy]:
    """Run a proxy while the block runs."""
    with FaultyProxy(upstream) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()
