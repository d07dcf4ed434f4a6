"""Test the lookup of network interfaces."""

from __future__ import annotations

from components import network


def test_the_interface_of_an_address_is_looked_up() -> None:
    assert network.interface_of("127.0.0.1") in ("lo", "lo0")
    assert network.interface_of(network.external_address())
    assert network.interface_of("192.0.2.1") is None
