"""TCP ports on this machine."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import urlsplit

from .errors import Refusal

RENDEZVOUS = "TRAINYARD_MEETING"


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def accepts_connections(address: str, patience: float = 0.0) -> bool:
    """Whether something accepts connections at `host:port`, asked for up to `patience` seconds."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return True
        except (OSError, ValueError):
            if time.monotonic() >= until:
                return False
            time.sleep(0.2)


def host_and_port(url: str) -> str:
    """`host:port` of an http(s) address; refuses one that has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, half a bracket
        host = None
    if not host:
        raise Refusal(f"{url}: is no server's address; one such as http://HOST:5000 is needed")
    return f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has `address`, such as lo or eth0."""
    import psutil

    having = [name for name, has in psutil.net_if_addrs().items() if any(one.address == address for one in has)]
    return having[0] if having else None


def external_address() -> str:
    """The address by which other machines reach this one; loopback where there is no way out. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def set_rendezvous(address: str) -> None:
    """Notes, in this process, where the workers of its run meet."""
    os.environ[RENDEZVOUS] = address


def rendezvous_address() -> str:
    """host:port that was noted."""
    return os.environ[RENDEZVOUS]
