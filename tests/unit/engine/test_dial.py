"""What people write to say where a peer is."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.pair import identity
from weft.engine.dial import ADDRESSES, check_underlay, decode_endpoint, decode_target, resolve
from weft.errors import PeerError, UsageError
from weft.multiaddr import decode_multiaddr

PEER = str(identity("alice").peer_id)


def test_target_is_an_address_and_whom_to_expect_there() -> None:
    address, peer = decode_target(f"/ip4/192.0.2.1/udp/1312/p2p/{PEER}")
    assert address.endpoint() == ("192.0.2.1", 1312)
    assert str(peer) == PEER


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected"),
        ("192.0.2.1:1312", "expected"),
        ("/ip4/192.0.2.1/udp/1312", "has no /p2p/ID at its end; `weft info` on the other machine"),
        (f"/ip4/192.0.2.1/tcp/80/ws/p2p/{PEER}", "this version dials UDP only"),
        (f"/ip4/192.0.2.1/tcp/80/p2p/{PEER}", "this version dials UDP only"),
        (f"/ip4/1.2/udp/1312/p2p/{PEER}", "expected"),
        (f"/ip4/192.0.2.1/udp/70000/p2p/{PEER}", "port"),
        (f"/ip4/192.0.2.1/udp/0/p2p/{PEER}", "nobody listens on port 0"),
        ("/ip4/192.0.2.1/udp/1312/p2p/12D3Koo", "expected"),
    ],
)
def test_target_that_can_not_be_dialled_is_told_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode_target(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1:51820", ("192.0.2.1", 51820)),
        ("[2001:db8::1]:51820", ("2001:db8::1", 51820)),
        ("/ip4/192.0.2.1/udp/51820", ("192.0.2.1", 51820)),
        ("/ip6/2001:db8::1/udp/1", ("2001:db8::1", 1)),
        ("[fe80::1%eth0]:51820", ("fe80::1%eth0", 51820)),
        ("/ip6zone/eth0/ip6/fe80::1/udp/51820", ("fe80::1%eth0", 51820)),
    ],
)
def test_endpoint_is_read_as_wg_and_multiaddrs_write_it(text: str, expected: tuple[str, int]) -> None:
    assert decode_endpoint(text).endpoint() == expected


@pytest.mark.parametrize("text", ["Hub.example.org:51820", "/dns/hub.example.org/udp/51820"])
def test_endpoint_may_have_a_name(text: str) -> None:
    address = decode_endpoint(text)
    assert str(address) == "/dns/hub.example.org/udp/51820"
    assert address.host_and_port == "hub.example.org:51820"


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "192.0.2.1", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:-1", "192.0.2.1:70000", "foo:bar"),
        *("host.example", "host.example:", "host.example:0", ":51820", "192.0.2.1:0", "192.0.2.1:100000000000"),
        *(
            "1.2.3:1",
            "[]:1",
            "[host.example]:1",
            "a..b:1",
            "-a:1",
            "a b:1",
            "a/udp/1:1",
            "bücher.example:1",
            "2001:db8::1",
        ),
        *(
            "192.0.2.1:²",
            "192.0.2.1:١٢",
            "192.0.2.1:1 ",
            "[::1:1",
            "::1:1",
            "]:1",
            "/",
            "/ip4/192.0.2.1",
            "/dns/a.example/udp/0",
            "/dns/a.example/tcp/1/ws",
            f"/ip4/192.0.2.1/udp/1/p2p/{PEER}",
        ),
        *("/ip4/192.0.2.1/tcp/80/ws", "/ip4/192.0.2.1/udp/99999"),
        f"host.example:{'0' * 5000}1312",
    ],
)
def test_endpoint_that_is_none_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode_endpoint(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_a_usage_error(text: str) -> None:
    for decode in (decode_endpoint, decode_target):
        try:
            decoded = decode(text)
        except UsageError:
            continue
        address = decoded[0] if isinstance(decoded, tuple) else decoded
        assert (address.transport, address.peer_id) == ("udp", None)
        assert address.port


@pytest.mark.parametrize("text", ["/ip6/fc00::1/udp/1", "/ip6/fcff:1::2/udp/1"])
def test_endpoint_inside_the_overlay_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="an address of the overlay itself"):
        check_underlay(decode_multiaddr(text))


@pytest.mark.parametrize("text", ["/ip6/fd00::1/udp/1", "/ip4/10.0.0.1/udp/1", "/ip6/2001:db8::1/udp/1"])
def test_endpoint_outside_the_overlay_is_fine(text: str) -> None:
    check_underlay(decode_multiaddr(text))


async def test_name_becomes_its_addresses_of_the_families_that_a_listener_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: Any, **__: Any) -> list[Any]:
        ip6 = [(10, 2, 17, "", (f"2001:db8::{number:x}", 7, 0, 0)) for number in range(1, 1 + ADDRESSES)]
        return [*ip6[:2], (2, 2, 17, "", ("192.0.2.1", 7)), *ip6]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    name = decode_multiaddr(f"/dns/host.example/udp/7/p2p/{PEER}")
    found = [each.endpoint() for each in await resolve(name, [False, True])]
    assert found[:4] == [("2001:db8::1", 7), ("2001:db8::2", 7), ("192.0.2.1", 7), ("2001:db8::3", 7)]
    assert len(found) == ADDRESSES
    assert [each.endpoint() for each in await resolve(name, [False])] == [("192.0.2.1", 7)]
    with pytest.raises(PeerError, match=r"host\.example has no address that a listener of this node can reach"):
        await resolve(name, [])


async def test_name_that_nobody_knows_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> list[Any]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(PeerError, match=r"^can't resolve host\.example: Name or service not known$"):
        await resolve(decode_multiaddr(f"/dns/host.example/udp/7/p2p/{PEER}"), [False])


def test_process_does_not_wait_for_a_resolver_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(30) and [])
    name = decode_multiaddr("/dns/host.example/udp/7")

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resolve(name, [False]), 0.01)

    asyncio.run(give_up())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "resolve host.example")
    assert thread.daemon
    released.set()
    thread.join(5)
    assert not thread.is_alive()


async def test_address_stays_as_it_is() -> None:
    address = decode_multiaddr(f"/ip4/192.0.2.1/udp/7/p2p/{PEER}")
    assert await resolve(address, [True]) == [address]
