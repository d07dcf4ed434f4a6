"""TCP ports and addresses of this machine."""

from __future__ import annotations

import ipaddress
import socket
import time
from urllib.parse import urlsplit

from .errors import Refusal


def free_port() -> int:
    """Return a port on loopback that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def split_address(address: str) -> tuple[str, str]:
    """Return host and port of `host:port`; an IPv6 host stands in brackets, as in `[::1]:6379`."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def join_address(host: str, port: int | str) -> str:
    """Return `host:port`, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback, of IPv4 or IPv6."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def accepts_connections(address: str, patience: float = 0.0) -> bool:
    """Return whether something accepts connections at `host:port`; try again for up to `patience` seconds."""
    host, port = split_address(address)
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return True
        except (OSError, ValueError):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)


def host_and_port(url: str) -> str:
    """Return `host:port` of an HTTP address, with the scheme's default port; refuse an address without a host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # the port is not a number, or a bracket is not closed
        host = None
    if not host:
        raise Refusal(f"{url}: is not the address of a server; write one such as http://HOST:5000")
    return join_address(host, port or (443 if parts.scheme == "https" else 80))


def interface_of(address: str) -> str | None:
    """Return the network interface of this machine that has this address, such as lo or eth0, or None."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in addresses):
            return name
    return None


def external_address() -> str:
    """Return the address at which other machines reach this one, or loopback without a network; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
