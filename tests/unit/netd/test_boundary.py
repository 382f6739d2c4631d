"""netd of a node with a TUN is no way out of the network, and none in, whatever else the machine is joined to."""

from __future__ import annotations

import asyncio
import errno
import socket as sockets
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from tests.system.lab import Cable
from tests.unit.netd.kernel_end import IFNAME, KernelEnd
from tests.unit.netd.served import Served, on_kernel
from tests.unit.netd.test_sockets import refused
from weft import netd
from weft.io.kernel import backend as backend_module
from weft.io.kernel import echo as echo_module
from weft.io.kernel import listener as listener_module
from weft.io.kernel import options
from weft.io.kernel.inside import Inside
from weft.io.link import Counters, counters
from weft.netd.messages import Ready
from weft.netd.status import Status
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.testing.device import inside_namespace

OWN = [IPv6Interface("fc00::1"), IPv4Interface("10.7.0.1/24"), IPv4Interface("10.9.0.1/32")]


def packed(text: str) -> bytes:
    return ip_address(text).packed


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [
        ("fc00::1", True),
        ("10.7.0.1", True),
        ("fc00::2", True),
        ("10.8.3.4", True),
        ("192.168.1.5", True),
        ("10.7.0.9", False),
        ("fc00::3", False),
        ("192.168.2.1", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("169.254.1.1", False),
        ("fe80::1", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.8.3.4", False),
    ],
)
def test_inside_is_what_this_node_and_its_peers_have(address: str, is_inside: bool) -> None:
    networks = {ip_network(text) for text in ("fc00::2", "10.8.0.0/16", "192.168.1.0/24", "127.0.0.0/8", "fe80::/10")}
    networks |= {ip_network(text) for text in ("0.0.0.0/32", "224.0.0.0/4", "ff00::/8", "::/128", "::1/128")}
    inside = Inside(lambda: OWN, lambda: networks)
    assert inside.has(packed(address)) is is_inside


def test_inside_follows_peers_that_come_and_go() -> None:
    networks = {ip_network("fc00::2")}
    inside = Inside(lambda: OWN, lambda: networks)
    assert (inside.has(packed("fc00::2")), inside.has(packed("fc00::3"))) == (True, False)
    networks = {ip_network("fc00::3")}
    assert (inside.has(packed("fc00::2")), inside.has(packed("fc00::3"))) == (False, True)


def test_source_is_of_the_network_of_whom_is_talked_to() -> None:
    networks = {ip_network(text) for text in ("fc00::2", "10.7.0.0/24", "10.8.0.0/16")}
    inside = Inside(lambda: OWN, lambda: networks)
    pairs = {"fc00::2": "fc00::1", "10.7.0.5": "10.7.0.1", "10.8.0.1": "10.7.0.1", "10.9.0.1": "10.9.0.1"}
    assert {remote: inside.source_for(packed(remote)) for remote in pairs} == {
        remote: packed(source) for remote, source in pairs.items()
    }
    with pytest.raises(StackError) as caught:
        Inside(lambda: OWN[:1], lambda: networks).source_for(packed("10.7.0.5"))
    assert caught.value.failure is Failure.NO_ROUTE


@pytest.fixture
def listening(lan: Cable) -> Iterator[dict[str, sockets.socket]]:
    """Who listens for TCP and UDP where nobody may get to by netd: by address, each on a port that is free there."""
    with ExitStack() as stack:
        found = {}
        for end, addresses in (
            (lan.left, ("127.0.0.1", "::1", lan.left.ip4, lan.left.ip6)),
            (lan.right, (lan.right.ip4,)),
        ):
            with inside_namespace(end.host.namespace):
                for address in addresses:
                    family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
                    sock = found[address] = stack.enter_context(sockets.socket(family))
                    sock.bind((address, 0))
                    sock.listen()
                    sock.setblocking(False)
        yield found


@on_kernel
async def test_nothing_outside_is_reached(
    served: Served, client: netd.Client, listening: dict[str, sockets.socket]
) -> None:
    for address, sock in listening.items():
        port = sock.getsockname()[1]
        # It is there for the machine itself.
        sockets.create_connection((address, port), 5).close()
        sock.accept()[0].close()
        for each in (address, f"::ffff:{address}" if "." in address else address):
            stream, datagrams, bound = [await client.socket(kind) for kind in ("stream", "datagram", "datagram")]
            await bound.bind()
            for asked in (
                stream.connect(each, port),
                datagrams.connect(each, port),
                datagrams.send(b"x", (each, port)),
                bound.send(b"x", (each, port)),
                client.ping(each),
            ):
                assert await refused(asked) is Status.NO_ROUTE, each
        with pytest.raises(BlockingIOError):
            sock.accept()


@on_kernel
async def test_network_of_a_peer_leads_to_the_peer_whatever_the_machine_has_there(
    served: Served, client: netd.Client, lan: Cable, listening: dict[str, sockets.socket]
) -> None:
    """The route of the machine's own network is longer than that of the peer, and would win."""
    end = served.left
    assert isinstance(end, KernelEnd)
    end.networks |= {ip_network("10.0.0.0/8"), ip_network(f"{lan.right.ip4}/32"), ip_network("127.0.0.0/8")}
    there, port = lan.right.ip4, listening[lan.right.ip4].getsockname()[1]
    stream, connected, datagrams = [await client.socket(kind) for kind in ("stream", "datagram", "datagram")]
    connecting = asyncio.create_task(stream.connect(there, port))
    await connected.connect(there, port)
    await connected.send(b"connected")
    await datagrams.send(b"not connected", (there, port))
    pinging = asyncio.create_task(client.ping(there, timeout_s=0.5))
    await asyncio.wait({pinging})
    to_peer = [packet[9] for packet in end.sent if packet[0] >> 4 == 4 and packet[16:20] == packed(there)]
    assert set(to_peer) == {sockets.IPPROTO_TCP, sockets.IPPROTO_UDP, sockets.IPPROTO_ICMP}
    assert {packet[12:16] for packet in end.sent if packet[0] >> 4 == 4} == {packed(end.ipv4)}
    with pytest.raises(BlockingIOError):
        listening[there].accept()
    with pytest.raises(BlockingIOError):
        listening["127.0.0.1"].accept()
    await stream.close()
    for waiting in (connecting, pinging):
        with pytest.raises(netd.NetdError):
            await waiting


@on_kernel
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1", "192.0.2.1", "LAN"])
async def test_nothing_but_own_addresses_can_be_bound(
    served: Served, client: netd.Client, lan: Cable, address: str
) -> None:
    stream, datagrams = await client.socket(), await client.socket("datagram")
    for socket in (stream, datagrams):
        assert await refused(socket.bind(lan.left.ip4 if address == "LAN" else address, 0)) is Status.NOT_OURS


@on_kernel
async def test_any_address_is_those_in_the_network(served: Served, client: netd.Client, lan: Cable) -> None:
    stream, datagrams, four = await client.socket(), await client.socket("datagram"), await client.socket(version=4)
    ports = [(await stream.listen()).port, (await datagrams.bind()).port, (await four.listen()).port]
    bound = [line.split()[3:5] for line in lan.left.host.run("ss", "-Htuln").splitlines()]
    here = {place for row in bound for place in row}
    for port, addresses in zip(ports, (("[fc00::1]", "10.7.0.1"),) * 2 + (("10.7.0.1",),), strict=True):
        assert {each for each in here if each.endswith(f":{port}")} == {f"{each}:{port}" for each in addresses}
    with pytest.raises(ConnectionRefusedError):
        sockets.create_connection(("127.0.0.1", ports[0]), 5)
    with pytest.raises(ConnectionRefusedError):
        sockets.create_connection((lan.left.ip4, ports[0]), 5)


@on_kernel
async def test_who_comes_from_outside_is_neither_taken_nor_heard(
    served: Served, client: netd.Client, lan: Cable
) -> None:
    """A neighbour may send to the node's address by the other network: Linux takes that."""
    lan.right.host.ip("route", "replace", f"{served.left.ipv4}/32", "via", lan.left.ip4)
    listener, datagrams = await client.socket(), await client.socket("datagram")
    port, udp_port = (await listener.listen()).port, (await datagrams.bind()).port
    accepting = asyncio.create_task(listener.accept())
    with inside_namespace(lan.right.host.namespace):
        outside = sockets.socket()
        sender = sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM)
    with outside, sender:
        outside.setblocking(False)
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_connect(outside, (served.left.ipv4, port))
            assert await asyncio.get_running_loop().sock_recv(outside, 1) == b""
        sender.sendto(b"x", (served.left.ipv4, udp_port))
        assert await client.poll({listener: Ready.READABLE, datagrams: Ready.READABLE}, timeout_s=0.1) == {}
    # Others are, behind them.
    _, writer = await served.right.streams.open_connection(served.left.ipv4, port)
    assert ip_address((await accepting).remote.address) == ip_address(served.right.ipv4)
    other = served.right.host.udp.open(None, None)
    other.send(b"from inside", Endpoint(packed(served.left.ipv4), udp_port), served.right.driver.clock())
    served.right.driver.wake()
    assert await datagrams.receive() == b"from inside"
    writer.close()


@on_kernel
async def test_node_talks_to_itself(served: Served, client: netd.Client) -> None:
    listener, socket = await client.socket(), await client.socket()
    port = (await listener.listen()).port
    await socket.connect(served.left.ipv6, port)
    accepted = await listener.accept()
    await socket.send(b"to myself")
    assert await accepted.receive() == b"to myself"
    assert 0 < await client.ping(served.left.ipv6) < 1
    assert 0 < await client.ping(served.left.ipv4) < 1


@on_kernel
async def test_what_a_closed_socket_has_yet_to_send_has_a_bound(
    served: Served, client: netd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.io.kernel.backend.MAX_LEAVING_BYTES", 600_000)
    end = served.left
    assert isinstance(end, KernelEnd)
    listener = await client.socket()
    port = (await listener.listen()).port
    writers = []
    for _ in range(3):
        _, writer = await served.right.streams.open_connection(end.ipv6, port)
        writer.transport.pause_reading()
        writers.append(writer)
        socket = await listener.accept()
        while (await socket.status()).flags & Ready.WRITABLE:
            await socket.send(bytes(300_000), wait=False)
        await socket.close()
    leaving = end.backend._leaving
    assert 0 < sum(each.waiting_bytes for each in leaving) <= 600_000
    assert len(end.backend.connections) == len(leaving) < 3
    for writer in writers:
        writer.close()


@on_kernel
async def test_counters_are_those_of_the_interface(served: Served, client: netd.Client) -> None:
    before = await client.stats()
    await client.ping(served.right.ipv6)
    listener = await client.socket()
    await listener.listen()
    after = await client.stats()
    assert (after.tx_packets - before.tx_packets, after.rx_packets - before.rx_packets) == (1, 1)
    assert after.tx_bytes - before.tx_bytes >= 48
    assert (after.listeners, after.own_sockets, after.waiting) == (1, 1, 0)
    assert counters(IFNAME).sent_packets == after.tx_packets
    assert counters("none") == Counters(0, 0, 0, 0, 0)


@on_kernel
async def test_descriptors_of_the_rest_of_the_daemon_are_left_to_it(
    served: Served, client: netd.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener_module, "RETRY_S", 0.05)
    listener = await client.socket()
    port = (await listener.listen()).port
    accepting = asyncio.create_task(listener.accept())
    with monkeypatch.context() as full:
        full.setattr(options, "RESERVED_DESCRIPTORS", 1 << 40)
        stream, datagrams = await client.socket(), await client.socket("datagram")
        for asked in (
            stream.connect(served.right.ipv6, 80),
            stream.listen(),
            datagrams.bind(),
            datagrams.connect(served.right.ipv6, 80),
            client.ping(served.right.ipv6),
        ):
            assert await refused(asked) is Status.NO_RESOURCE
        _, turned_away = await served.right.streams.open_connection(served.left.ipv6, port)
        while "no socket for who connects" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
            await asyncio.sleep(0.01)
    _, writer = await served.right.streams.open_connection(served.left.ipv6, port)
    assert (await accepting).remote.port == writer.get_extra_info("sockname")[1]
    writer.close()
    turned_away.close()


@on_kernel
async def test_socket_of_one_family_is_bound_where_it_was_asked_for(served: Served, client: netd.Client) -> None:
    server = await served.right.streams.start_server(lambda _, writer: writer.close(), None, 80)
    socket = await client.socket()
    local = await socket.bind(served.left.ipv4, 7777)
    assert await socket.connect(served.right.ipv4, 80) == local
    other = await client.socket()
    await other.bind(served.left.ipv6)
    with pytest.raises(netd.NetdError):
        await other.connect(served.right.ipv4, 80)
    server.close()


@on_kernel
async def test_backend_that_is_over_makes_no_sockets(served: Served) -> None:
    await served.end()
    there, here = Endpoint(packed(served.right.ipv6), 80), Endpoint(bytes(16), 0)
    backend = served.backend
    for made in (
        lambda: backend.connect(there, None),
        lambda: backend.listen(here, 1),
        lambda: backend.open_udp(None, there),
        lambda: backend.ping(there.address, 1),
    ):
        with pytest.raises(StackError) as caught:
            made()
        assert caught.value.failure is Failure.ABORTED


@on_kernel
async def test_ping_without_the_right_to_a_raw_socket(
    served: Served, client: netd.Client, lan: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_raw_socket(length: int, kind: int, protocol: int = 0) -> sockets.socket:
        if kind == sockets.SOCK_RAW:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return options.opened(length, kind, protocol)

    monkeypatch.setattr(echo_module, "opened", no_raw_socket)
    # As the kernel has it, before systemd says otherwise.
    lan.left.host.run("sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    assert await refused(client.ping(served.right.ipv6)) is Status.PROHIBITED
    lan.left.host.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    for there in (served.right.ipv6, served.right.ipv4):
        assert 0 < await client.ping(there) < 1
    served.left.is_cut = True
    assert await refused(client.ping(served.right.ipv6, timeout_s=0.02)) is Status.TIMED_OUT


@on_kernel
async def test_pings_of_clients_that_went_have_a_bound(
    served: Served, client: netd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "MAX_PINGS", 3)
    served.left.is_cut = True
    async with netd.Client(served.path) as gone:
        waiting = [asyncio.create_task(gone.ping(served.right.ipv6, timeout_s=0.5)) for _ in range(3)]
        await gone.stats()
    assert {type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)} == {ConnectionResetError}
    assert await refused(client.ping(served.right.ipv6)) is Status.NO_RESOURCE
    await asyncio.sleep(0.6)
    served.left.is_cut = False
    assert 0 < await client.ping(served.right.ipv6) < 1
