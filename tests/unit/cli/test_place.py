"""Hosts and ports as people write them."""

from __future__ import annotations

import pytest

from weft.cli.place import split_local, split_place
from weft.errors import UsageError

WITH_PORT = [
    ("loom:8443", "loom", 8443),
    ("192.0.2.1:8443", "192.0.2.1", 8443),
    ("[fc00::1]:8443", "fc00::1", 8443),
]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        *WITH_PORT,
        ("loom", "loom", 443),
        ("fc00::1", "fc00::1", 443),
        ("[fc00::1]", "fc00::1", 443),
    ],
)
def test_port_that_may_be_left_out(text: str, host: str, port: int) -> None:
    assert split_place(text, 443) == (host, port)


@pytest.mark.parametrize(("text", "host", "port"), WITH_PORT)
def test_port_that_is_needed(text: str, host: str, port: int) -> None:
    assert split_place(text) == (host, port)


@pytest.mark.parametrize("text", ["loom:", "loom:x", "loom:0", "loom:65536", "loom:-1", "[fc00::1]:x", "loom:²"])
def test_port_that_is_none(text: str) -> None:
    for port in (443, None):
        with pytest.raises(UsageError, match="is no port"):
            split_place(text, port)


@pytest.mark.parametrize("text", ["loom", "fc00::1", "fc00::1:80", "[fc00::1]", ":80", ""])
def test_place_without_a_port_or_a_host(text: str) -> None:
    with pytest.raises(UsageError, match="expected a host and a port"):
        split_place(text)


@pytest.mark.parametrize(
    ("text", "host", "port"), [*WITH_PORT, ("8080", "127.0.0.1", 8080), ("0.0.0.0:8080", "0.0.0.0", 8080)]
)
def test_host_that_may_be_left_out(text: str, host: str, port: int) -> None:
    assert split_local(text) == (host, port)


@pytest.mark.parametrize("text", ["loom", "", "0", "65536", "fc00::1:80"])
def test_neither_port_nor_host_and_port(text: str) -> None:
    with pytest.raises(UsageError, match="port"):
        split_local(text)
