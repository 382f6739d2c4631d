"""Captures of what passes the firewall: what is told of each packet, to whom, and what happens if nobody keeps up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.engine import packets
from tests.unit.engine.packets import SYN
from tests.unit.engine.pair import Net, Node
from tests.unit.engine.test_passing import stock
from weft.engine import capture as capture_module
from weft.engine.capture import MAX_LISTENERS, Captures
from weft.engine.observed import Captured, CapturedPacket
from weft.errors import UsageError


class Hall(Net):
    """A net whose listeners go before it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ears: list[Ear] = []

    def __exit__(self, *error: Any) -> None:
        for ear in self.ears:
            ear.close()
        super().__exit__(*error)


class Ear:
    """Somebody who captures at a node, from now on."""

    def __init__(self, node: Node, **asked: object) -> None:
        self.loop = node.net.loop
        self.stream: AsyncIterator[Captured] = node.session.captures.listen(**asked)
        self.coming = self.loop.create_task(anext(self.stream))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.missed = 0
        node.net.ears.append(self)

    def heard(self) -> list[CapturedPacket]:
        """All that was captured since the last time."""
        told: list[CapturedPacket] = []
        while True:
            for _ in range(3):
                self.loop.run_until_complete(asyncio.sleep(0))
            if not self.coming.done():
                return told
            captured = self.coming.result()
            told += captured.packets
            self.missed += captured.missed
            self.coming = self.loop.create_task(anext(self.stream))

    def close(self) -> None:
        self.coming.cancel()
        self.loop.run_until_complete(asyncio.wait({self.coming}))
        self.loop.run_until_complete(self.stream.aclose())


def two(net: Net, **terms: object) -> tuple[Node, Node]:
    alice, bob = net.node("alice"), net.node("bob", **terms)
    net.connect(alice, bob)
    return alice, bob


def test_packet_is_told_where_it_leaves_and_where_it_arrives() -> None:
    with Hall() as net:
        alice, bob = two(net)
        there, here = Ear(alice), Ear(bob)
        packet = packets.udp(alice.address, bob.address, b"hello")
        alice.tun.program_sends(packet)
        net.run()
        (out,), (into,) = there.heard(), here.heard()
        assert (out.direction, into.direction) == ("out", "in")
        assert out.data == into.data == packet
        assert (out.length, out.segment, out.dropped) == (len(packet), 0, None)
        assert (out.peer, into.peer) == (str(bob.identity.peer_id), str(alice.identity.peer_id))
        assert into.time_ns > 0


def test_super_packet_is_one_with_its_segments_and_its_checksum() -> None:
    with Hall() as net:
        alice, bob = two(net)
        there, here = Ear(alice), Ear(bob)
        packet = packets.tcp(alice.address, bob.address, bytes(range(250)) * 100)
        alice.tun.program_sends(packet, segment=1200)
        net.run()
        (out,), (into,) = there.heard(), here.heard()
        assert out.data == into.data == packet
        assert (out.segment, into.segment) == (1200, 1200)
        assert bob.tun.received == packets.segments(packet, 1200)


def test_packets_of_a_stock_device_are_told_as_they_reach_the_interface() -> None:
    with Hall() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob)
        here = Ear(bob)
        packet = packets.tcp(alice.address, bob.address, bytes(4000))
        alice.tun.program_sends(packet, segment=1000)
        net.run()
        told = here.heard()
        assert {each.peer for each in told} == {"alice"}
        assert all(packets.is_sound(each.data) for each in told)
        assert sum(each.length for each in told) >= len(packet)
        assert bob.tun.received == packets.segments(packet, 1000)


def test_packet_that_does_not_pass_is_told_with_the_reason_to_whoever_asked() -> None:
    with Hall() as net:
        alice, bob = two(net, rules=())
        all_of_it, passed = Ear(bob, dropped=True), Ear(bob)
        alice.tun.program_sends(packets.tcp(alice.address, bob.address, flags=SYN, ports=(1, 22)))
        net.run()
        refused, reset = all_of_it.heard()
        assert (refused.direction, refused.dropped, refused.peer) == (
            "in",
            "not_allowed",
            str(alice.identity.peer_id),
        )
        assert packets.is_sound(refused.data)
        assert (reset.direction, reset.dropped) == ("out", None)
        assert [each.data for each in passed.heard()] == [reset.data]
        assert reset.data == alice.tun.received[-1]


def test_packet_that_nobody_can_take_is_told_as_dropped() -> None:
    with Hall() as net:
        alice, _ = two(net)
        there = Ear(alice, dropped=True)
        alice.tun.program_sends(packets.udp(alice.address, b"\xfc" + bytes(14) + b"\x09"))
        alice.tun.program_sends(packets.udp(alice.address, bytes(16)))
        net.run()
        told = there.heard()
        assert [(each.dropped, each.peer) for each in told] == [("no peer has the destination", None)] * 2


def test_packet_that_finds_no_interface_is_told_as_dropped() -> None:
    with Hall() as net:
        alice, bob = net.node("alice"), net.node("bob", tun=False)
        net.connect(alice, bob)
        here = Ear(bob, dropped=True)
        alice.tun.program_sends(packets.udp(alice.address, bob.address))
        net.run()
        assert [(each.direction, each.dropped) for each in here.heard()] == [("in", "no interface")]


def test_capture_of_one_peer_tells_nothing_of_others() -> None:
    with Hall() as net:
        alice, bob, carol = (net.node(name) for name in ("alice", "bob", "carol"))
        net.connect(alice, bob, carol)
        with_carol = Ear(alice, peer=alice.peer(carol))
        alice.peer(carol).name = "carol"
        for other in (bob, carol):
            alice.tun.program_sends(packets.udp(alice.address, other.address, b"to you"))
            other.tun.program_sends(packets.udp(other.address, alice.address, b"to you"))
        net.run()
        assert [(each.direction, each.peer) for each in with_carol.heard()] == [("out", "carol"), ("in", "carol")]


def test_only_as_much_as_was_asked_for_is_kept() -> None:
    with Hall() as net:
        alice, bob = two(net)
        there = Ear(alice, snap=60)
        packet = packets.udp(alice.address, bob.address, bytes(500))
        alice.tun.program_sends(packet)
        net.run()
        (told,) = there.heard()
        assert (told.data, told.length) == (packet[:60], len(packet))


def test_who_does_not_keep_up_is_told_how_many_were_missed_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capture_module, "QUEUE_BYTES", 10_000)
    monkeypatch.setattr(capture_module, "TOLD_BYTES", 3_000)
    with Hall() as net:
        alice, bob = two(net)
        slow = Ear(alice)
        sent = [packets.udp(alice.address, bob.address, bytes((number,)) * 700) for number in range(30)]
        alice.tun.program_sends(sent[0])
        net.run()
        # The first was taken; nobody takes the next ones.
        alice.tun.program_sends(*sent[1:])
        net.run()
        told = [each.data for each in slow.heard()]
        assert 1 < len(told) < 30
        assert told == sent[: len(told)]
        assert slow.missed == 30 - len(told)
        alice.tun.program_sends(sent[0])
        net.run()
        assert [each.data for each in slow.heard()] == [sent[0]]
        assert bob.tun.received == [*sent, sent[0]]


def test_nobody_listens_any_more_once_the_last_one_went() -> None:
    with Hall() as net:
        alice, bob = two(net)
        ears = [Ear(alice), Ear(alice)]
        assert len(alice.session.captures.listeners) == 2
        for ear in ears:
            ear.close()
        assert alice.session.captures.listeners == []
        alice.tun.program_sends(packets.udp(alice.address, bob.address))
        net.run()
        assert len(bob.tun.received) == 1


def test_listeners_are_bounded() -> None:
    async def main() -> None:
        captures = Captures()
        streams = [captures.listen() for _ in range(MAX_LISTENERS + 1)]
        coming = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.sleep(0)
        assert len(captures.listeners) == MAX_LISTENERS
        with pytest.raises(UsageError, match="captures run already"):
            await coming.pop()
        for each in coming:
            each.cancel()
        await asyncio.gather(*coming, return_exceptions=True)

    asyncio.run(main())
