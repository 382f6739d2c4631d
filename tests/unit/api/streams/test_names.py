"""`getaddrinfo` of the overlay, and what its callers make of addresses."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from weft.api.streams.sockaddr import endpoint_of, sockaddr_of
from weft.stack.endpoint import Endpoint

TCP = (socket.SOCK_STREAM, socket.IPPROTO_TCP)
UDP = (socket.SOCK_DGRAM, socket.IPPROTO_UDP)


class TestHosts:
    async def test_address_is_itself(self, left: Node) -> None:
        infos = await left.streams.getaddrinfo("192.0.2.1", 80, type=socket.SOCK_STREAM)
        assert infos == [(socket.AF_INET, *TCP, "", ("192.0.2.1", 80))]
        infos = await left.streams.getaddrinfo("FC00::0:1", 80, type=socket.SOCK_DGRAM)
        assert infos == [(socket.AF_INET6, *UDP, "", ("fc00::1", 80, 0, 0))]

    @pytest.mark.parametrize("host", ["192.0.2.1", "fc00::1", "::ffff:192.0.2.1"])
    @pytest.mark.parametrize("arguments", [{"type": socket.SOCK_STREAM}, {"proto": socket.IPPROTO_UDP}])
    async def test_answers_as_the_system_does(self, left: Node, host: str, arguments: Any) -> None:
        ours = await left.streams.getaddrinfo(host, 80, **arguments)
        assert ours == socket.getaddrinfo(host, 80, **arguments)

    async def test_all_types_of_sockets_unless_one_is_asked_for(self, left: Node) -> None:
        infos = await left.streams.getaddrinfo("fc00::1", 80)
        assert [info[1:3] for info in infos] == [TCP, UDP]

    async def test_name_is_asked_for(self, left: Node, right: Node) -> None:
        infos = await left.streams.getaddrinfo("right", 80, type=socket.SOCK_STREAM)
        assert [info[4][0] for info in infos] == [right.ipv6, right.ipv4]
        infos = await left.streams.getaddrinfo(b"right", 80, type=socket.SOCK_STREAM, family=socket.AF_INET)
        assert [info[4][0] for info in infos] == [right.ipv4]

    async def test_name_of_other_letters_is_encoded(self, left: Node) -> None:
        left.names["xn--bcher-kva.example"] = ["192.0.2.7"]
        infos = await left.streams.getaddrinfo("bücher.example", 80, type=socket.SOCK_STREAM)
        assert infos[0][4] == ("192.0.2.7", 80)

    @pytest.mark.parametrize("host", [None, "", b""])
    async def test_no_host_is_this_one(self, left: Node, host: Any) -> None:
        infos = await left.streams.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
        assert [info[4][0] for info in infos] == ["::1", "127.0.0.1"]
        infos = await left.streams.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        assert [info[4][0] for info in infos] == ["0.0.0.0", "::"]

    async def test_canonical_name_on_demand(self, left: Node) -> None:
        infos = await left.streams.getaddrinfo("right", 80, flags=socket.AI_CANONNAME)
        assert [info[3] for info in infos] == ["right", "", "", ""]

    @pytest.mark.parametrize(
        ("host", "port", "arguments", "code"),
        [
            ("nobody", 80, {}, socket.EAI_NONAME),
            ("right", 80, {"flags": socket.AI_NUMERICHOST}, socket.EAI_NONAME),
            ("fe80::1%eth0", 80, {}, socket.EAI_NONAME),
            ("nul\0byte", 80, {}, socket.EAI_NONAME),
            ("x" * 64 + "ü", 80, {}, socket.EAI_NONAME),
            ("..ü", 80, {}, socket.EAI_NONAME),
            ("fc00::1", 80, {"family": socket.AF_INET}, socket.EAI_NONAME),
            ("fc00::1", 80, {"family": socket.AF_UNIX}, socket.EAI_FAMILY),
            ("fc00::1", 80, {"type": socket.SOCK_RAW}, socket.EAI_SOCKTYPE),
            ("fc00::1", 80, {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_UDP}, socket.EAI_SOCKTYPE),
            ("fc00::1", -1, {}, socket.EAI_SERVICE),
            ("fc00::1", 65_536, {}, socket.EAI_SERVICE),
            ("fc00::1", "no such service", {}, socket.EAI_SERVICE),
            ("fc00::1", "nul\0byte", {}, socket.EAI_SERVICE),
            ("fc00::1", "http", {"flags": socket.AI_NUMERICSERV}, socket.EAI_NONAME),
        ],
    )
    async def test_what_is_not_to_be_found_raises_gaierror(
        self, left: Node, host: str, port: Any, arguments: Any, code: int
    ) -> None:
        with pytest.raises(socket.gaierror) as caught:
            await left.streams.getaddrinfo(host, port, **arguments)
        assert caught.value.errno == code
        assert caught.value.strerror


class TestPorts:
    @pytest.mark.parametrize(
        ("port", "number"),
        [(0, 0), (None, 0), ("", 0), (b"", 0), (80, 80), ("80", 80), (b"80", 80), ("https", 443), (b"domain", 53)],
    )
    async def test_port_may_be_many_things(self, left: Node, port: Any, number: int) -> None:
        infos = await left.streams.getaddrinfo("fc00::1", port)
        assert {info[4][1] for info in infos} == {number}

    async def test_service_is_that_of_the_type(self, left: Node) -> None:
        assert (await left.streams.getaddrinfo("fc00::1", "http", type=socket.SOCK_STREAM))[0][4][1] == 80


class TestSocketAddresses:
    @pytest.mark.parametrize("text", ["192.0.2.1", "fc00::1", "::", "0.0.0.0", "::ffff:192.0.2.1"])
    async def test_there_and_back_is_the_same(self, text: str) -> None:
        endpoint = endpoint_of((text, 80))
        assert sockaddr_of(endpoint)[:2] == (text, 80)
        assert endpoint_of(sockaddr_of(endpoint)) == endpoint

    async def test_address_of_ipv6_may_be_of_two_or_four(self) -> None:
        assert endpoint_of(("::1", 1)) == endpoint_of(("::1", 1, 0, 0)) == Endpoint(bytes(15) + b"\x01", 1)

    @pytest.mark.parametrize(
        ("address", "error"),
        [
            ("192.0.2.1", TypeError),
            (None, TypeError),
            (("192.0.2.1",), TypeError),
            ((b"192.0.2.1", 1), TypeError),
            (("192.0.2.1", "1"), TypeError),
            (("name", 1), socket.gaierror),
            (("192.0.2.1", 65_536), OverflowError),
            (("192.0.2.1", -1), OverflowError),
        ],
    )
    async def test_what_is_none_is_refused(self, address: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            endpoint_of(address)
