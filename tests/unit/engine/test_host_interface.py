"""Nodes whose interface is a host inside them: what passes, who refuses, what stays when a session is built anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from tests.unit.engine import packets
from tests.unit.engine.nodes import LISTEN, Nodes, Test, peer_of, ping
from weft.burst.records import KIND_PACKET
from weft.engine import transmit
from weft.engine.config import Config, Fc00Section
from weft.engine.driver import Driver, rest
from weft.engine.host_interface import HostDevice, HostInterface
from weft.engine.lifetime import Lifetime
from weft.engine.manual import toml_text
from weft.engine.peer import Peer, Queued
from weft.engine.verbs.fc00 import Fc00
from weft.engine.verbs.settings import Settings
from weft.errors import UsageError
from weft.io.device import MAX_PACKET_BYTES
from weft.io.netlink import OVERLAY
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.tcp.connection import Connection

ANY = bytes(16)
S = 1_000_000_000


class Watcher:
    """Uses a socket, and notes when something happens to it."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()

    def handle_event(self) -> None:
        self.happened.set()


async def until(driver: Driver, condition: Callable[[], object]) -> None:
    """Wait for something to become so, 30 s of virtual time at most."""
    driver.wake()
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it is not so")


async def with_stacks(nodes: Nodes, *names: str) -> list[Lifetime]:
    made = [await nodes.start(name) for name in names]
    for node in made:
        await Fc00(node).start(device="stack")
    await nodes.connect(*made)
    return made


def driver_of(node: Lifetime) -> Driver:
    assert node.interface is not None
    assert node.interface.driver is not None
    return node.interface.driver


def connect(one: Lifetime, other: Lifetime, port: int) -> Connection:
    driver = driver_of(one)
    connection = driver.host.tcp.connect(Endpoint(other.identity.address, port), driver.clock())
    driver.wake()
    return connection


async def joined(alice: Lifetime, bob: Lifetime, port: int = 80) -> tuple[Connection, Connection]:
    """The two ends of a connection."""
    listener = driver_of(bob).host.tcp.listen(Endpoint(ANY, port))
    ours, accepted = connect(alice, bob, port), list[Connection]()
    await until(driver_of(bob), lambda: accepted.extend(filter(None, [listener.accept()])) or accepted)
    await until(driver_of(alice), lambda: ours.is_established)
    listener.close(driver_of(bob).clock())
    return ours, accepted[0]


async def came(node: Lifetime, connection: Connection) -> bytes:
    """What comes next."""
    pieces: list[bytes] = []
    await until(driver_of(node), lambda: pieces.extend(connection.receive()) or pieces)
    return b"".join(pieces)


async def carry(one: tuple[Lifetime, Connection], other: tuple[Lifetime, Connection], data: bytes) -> bytes:
    """Send all of it; what came."""
    (sender, ours), (receiver, theirs) = one, other
    ours.send(data)
    driver_of(sender).wake()
    taken = b""
    while len(taken) < len(data):
        taken += await came(receiver, theirs)
    return taken


def test_connection_between_two_stacks_carries_data_both_ways(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, theirs = await joined(alice, bob)
        data = bytes(range(256)) * 4000
        assert await carry((alice, ours), (bob, theirs), data) == data
        assert await carry((bob, theirs), (alice, ours), data) == data

    run(test)


def test_super_packets_cross_whole_and_without_checksums(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, theirs = await joined(alice, bob)
        # Until it is known that bursts get through, and the congestion window is open.
        await carry((alice, ours), (bob, theirs), bytes(1_000_000))
        seen: list[tuple[int, int, bool]] = []
        assert bob.interface is not None
        host = driver_of(bob).host
        receive = host.receive

        def note(packet: memoryview, now: int, *, segment: int = 0, is_partial: bool = False) -> None:
            seen.append((len(packet), segment, is_partial))
            receive(packet, now, segment=segment, is_partial=is_partial)

        host.receive = note  # type: ignore[method-assign]
        await carry((alice, ours), (bob, theirs), bytes(1_000_000))
        assert max(length for length, *_ in seen) > 60_000
        assert all(is_partial for _, segment, is_partial in seen if segment)
        assert len(seen) < 60

    run(test)


def test_listening_is_the_permission_and_a_port_that_nobody_listens_on_refuses(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        assert bob.firewall.rules() == ()
        refused = connect(alice, bob, 81)
        await until(driver_of(alice), lambda: refused.is_closed)
        assert refused.failure is Failure.REFUSED
        await joined(alice, bob, 81)
        assert bob.firewall.flows == 0

    run(test)


def test_node_without_the_stack_any_more_is_guarded_by_its_firewall_again(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        session = alice.running
        assert session.inbound.firewall is alice.firewall
        await Fc00(alice).start(device="stack")
        assert session.inbound.firewall is session.outbound.firewall is not alice.firewall
        await Fc00(alice).stop()
        assert session.inbound.firewall is session.outbound.firewall is alice.firewall
        assert session.delivery.device is None

    run(test)


def test_ping_of_a_stack_is_answered(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        driver = driver_of(alice)
        sent = driver.host.icmp.ping(bob.identity.address, driver.clock(), data=b"are you there")
        await until(driver, lambda: sent.reply_ns is not None)
        assert sent.failure is None

    run(test)


def test_connection_outlives_its_session(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, theirs = await joined(alice, bob)
        for node in (alice, bob):
            old = node.running
            assert node.stage is not None
            node.stage.handle_hopeless("peers")
            await asyncio.sleep(0.5)
            # Nobody sends meanwhile; what is to be sent waits.
            ours.send(b"while there was no session")
            driver_of(alice).wake()
            await asyncio.sleep(10)
            assert node.running is not old
            assert await ping(alice, bob)
            assert await came(bob, theirs) == b"while there was no session"
            assert node.running.inbound.firewall is not node.firewall

    run(test)


def test_fault_of_the_datapath_starts_its_task_anew(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, theirs = await joined(alice, bob)
        drain = alice.running.outbound.drain
        faults = [OSError("a fault"), ZeroDivisionError("another")]

        def fail(device: HostDevice) -> bool:
            if faults:
                raise faults.pop()
            return drain(device)

        alice.running.outbound.drain = fail  # type: ignore[method-assign, assignment]
        assert await carry((alice, ours), (bob, theirs), b"all the same") == b"all the same"
        assert alice.stage is not None
        assert {task.name: task.restarts for task in alice.stage.tasks()}["stack"] == 2

    run(test)


def test_what_came_before_a_fault_is_told_all_the_same(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, theirs = await joined(alice, bob)
        watcher, inbound = Watcher(), alice.running.inbound
        ours.user = watcher
        take = inbound._take

        def fail(*arguments: Any) -> None:
            take(*arguments)
            if ours.readable_bytes:
                inbound._take = take  # type: ignore[method-assign]
                raise ZeroDivisionError("a fault")

        inbound._take = fail  # type: ignore[method-assign]
        theirs.send(b"before")
        driver_of(bob).wake()
        await asyncio.wait_for(watcher.happened.wait(), 0.01)
        assert ours.receive() == [b"before"]

    run(test)


def test_who_is_told_that_a_packet_is_too_big_does_not_overtake_what_waits_behind_it(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transmit, "largest_burst", lambda peer: 0)
    monkeypatch.setattr(Peer, "packet_room", 1300)

    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        driver, session, peer = driver_of(alice), alice.running, peer_of(alice, bob)
        ends = (alice.identity.address, bob.identity.address)
        for length in (3000, 200):
            peer.queue.append(Queued(packets.udp(*ends, bytes(length)), KIND_PACKET, 0))
        driver.host.udp.open(Endpoint(ANY, 7000)).send(b"new", Endpoint(bob.identity.address, 7000), driver.clock())
        heard: list[bytes] = []
        listening = driver_of(bob).host
        receive = listening.receive

        def note(packet: memoryview, now: int, *, segment: int = 0, is_partial: bool = False) -> None:
            heard.append(bytes(packet[48:]))
            receive(packet, now, segment=segment, is_partial=is_partial)

        listening.receive = note  # type: ignore[method-assign]
        session.attend(peer)
        await asyncio.sleep(0.1)
        assert [len(each) for each in heard] == [200, 3]
        assert session.drops["too big for the path"] == 1
        assert driver.host.received_packets

    run(test)


def test_what_is_open_when_the_stack_goes_is_aborted_on_both_sides(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, theirs = await joined(alice, bob)
        there = driver_of(bob)
        await Fc00(alice).stop()
        assert ours.failure is Failure.ABORTED
        await until(there, lambda: theirs.is_closed)
        assert theirs.failure is Failure.RESET
        assert Fc00(alice).status().up is False

    run(test)


@pytest.mark.parametrize("what", ["interface", "node"])
def test_what_was_written_before_the_end_arrives(run: Callable[[Test], None], what: str) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, theirs = await joined(alice, bob)
        data = bytes(range(256)) * 2000
        taking = asyncio.create_task(carry((alice, ours), (bob, theirs), data))
        await asyncio.sleep(0)
        ours.close(driver_of(alice).clock())
        if what == "node":
            nodes.running.remove(alice)
            await alice.stop()
        else:
            await Fc00(alice).stop()
        assert await asyncio.wait_for(taking, 5) == data
        await until(driver_of(bob), lambda: theirs.is_at_end)
        assert theirs.failure is None

    run(test)


def test_peer_that_does_not_answer_holds_up_the_end_for_two_seconds_at_most(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        ours, _ = await joined(alice, bob)
        # It goes without a word.
        driver_of(bob).transmit = rest
        await bob.stop()
        nodes.running.remove(bob)
        ours.send(b"is anybody there")
        ours.close(driver_of(alice).clock())
        begun = asyncio.get_running_loop().time()
        await Fc00(alice).stop()
        assert asyncio.get_running_loop().time() - begun == pytest.approx(2, abs=0.2)

    run(test)


def test_second_start_changes_nothing_and_another_device_is_refused(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        fc00 = Fc00(alice)
        first = await fc00.start(device="stack")
        assert (first.device, first.ifname, first.mtu) == ("stack", None, 1352)
        assert await fc00.start(device="stack") == await fc00.start() == first
        for other in (fc00.start("weft9"), fc00.start(device="tun"), fc00.start(socket="/nowhere")):
            with pytest.raises(UsageError, match="is up already, as the stack"):
                await other
        with pytest.raises(UsageError, match="no interface with a name"):
            await fc00.start("weft9", device="stack")
        await fc00.stop()
        alice.config = Config(fc00=Fc00Section(device="stack"))
        assert (await fc00.start()).device == "stack"

    run(test)


def test_another_configuration_reaches_the_host(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        await Fc00(alice).start(device="stack")
        host, text, file = driver_of(alice).host, toml_text([LISTEN]), nodes.path / "alice" / "weft.toml"
        file.write_text(f'peer.listen = {text}\nfc00.addresses = ["10.7.0.1/24"]\n')
        await Settings(alice).reload()
        assert host.ip.path(bytes((10, 7, 0, 2))).source == bytes((10, 7, 0, 1))
        file.write_text(f"peer.listen = {text}\n")
        await Settings(alice).reload()
        with pytest.raises(StackError):
            host.ip.path(bytes((10, 7, 0, 2)))
        assert driver_of(alice).host is host

    run(test)


async def interface_of_a_node() -> HostInterface:
    return HostInterface(b"\xfc" + bytes(14) + b"\x01", lambda: S, bytes)


async def test_routes_and_addresses_of_the_host_are_those_of_the_interface() -> None:
    interface = await interface_of_a_node()
    host, peer, device = interface.host, ip_network("fc12::2/128"), ip_network("10.1.0.0/16")
    places = {text: ip_address(text).packed for text in ("10.7.0.2", "10.1.0.1", "fc12::2", "fc99::1", "10.9.0.7")}

    def reached() -> set[str]:
        return {text for text, address in places.items() if host.ip.addresses.is_on_link(address)} | {
            text for text, address in places.items() if host.routes.lookup(address) is not None
        }

    assert reached() == set()
    await interface.set_addresses([ip_interface("10.7.0.1/24")])
    assert interface.status().addresses == ["10.7.0.1/24"]
    assert reached() == {"10.7.0.2"}
    assert await interface.set_routes({peer, device}, at_most=1)
    assert reached() == {"10.7.0.2", "10.1.0.1", "fc12::2"}
    await interface.set_overlay_routes("all")
    assert {route.network for route in host.routes} == {OVERLAY, device}
    assert reached() == {"10.7.0.2", "10.1.0.1", "fc12::2", "fc99::1"}
    await interface.set_routes(set())
    await interface.set_addresses([ip_interface("10.9.0.1/24")])
    assert reached() == {"fc12::2", "fc99::1", "10.9.0.7"}
    assert host.ip.path(places["10.9.0.7"]).source == bytes((10, 9, 0, 1))
    with pytest.raises(StackError) as raised:
        host.ip.path(places["10.7.0.2"])
    assert raised.value.failure is Failure.NO_ROUTE
    await interface.close()


async def test_device_gives_single_packets_as_they_are() -> None:
    interface = await interface_of_a_node()
    await interface.set_overlay_routes("all")
    await interface.set_addresses([ip_interface("10.7.0.1/24")])
    into = memoryview(bytearray(MAX_PACKET_BYTES))
    assert interface.device.read(into) is None
    for destination in (ip_address("fc00:1::2").packed, bytes((10, 7, 0, 2))):
        interface.host.udp.open(None, Endpoint(destination, 53)).send(b"a question", None, S)
        read = interface.device.read(into)
        assert read is not None
        assert (read.kind, read.segment, read.is_partial) == (KIND_PACKET, 0, True)
        assert bytes(into[: read.length]).endswith(b"a question")
    assert interface.device.read(into) is None
    assert interface.device.drops == {}
    await interface.close()
