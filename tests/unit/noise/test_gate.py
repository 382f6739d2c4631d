"""The front door: who is let in, when there is load, and what any bytes do."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.noise.pair import START_NS, WALL_NS, Pair
from weft.noise.cookie import CookieGenerator
from weft.noise.gate import (
    CALM_INITIATIONS_PER_SECOND,
    HANDSHAKES_PER_SECOND,
    REPLIES,
    SOURCE_INITIATIONS_AT_ONCE,
    Gate,
)
from weft.noise.messages import Initiation, encode_initiation
from weft.noise.primitives import StaticKey
from weft.noise.timers import MILLISECOND_NS, SECOND_NS
from weft.noise.tunnel import KeypairReady, Tunnel

V4_MAPPED = bytes(10) + b"\xff\xff"
HOME = bytes((192, 0, 2, 1)) + b"\x05\x20"


def random_initiation(public: bytes, seed: int) -> bytes:
    """What a flooder who knows our key can send: MAC1 is right, the rest is noise."""
    return CookieGenerator(public).add_macs(encode_initiation(Initiation(seed, Random(seed).randbytes(108))), 0)


class Knocker:
    """A peer that wants in: a tunnel, and a gate for what comes back."""

    def __init__(self, door: Door) -> None:
        static = StaticKey(door.random.randbytes(32))
        self.gate = Gate(static, tunnel_for=lambda _: None, random_bytes=door.random.randbytes)
        self.tunnel = Tunnel(static, door.static.public, table=self.gate.table, random_bytes=door.random.randbytes)

    def knock(self, now: int) -> bytes:
        assert self.tunnel.initiate(now, WALL_NS + now)
        (initiation,) = self.tunnel.datagrams_to_send()
        return initiation


class Door:
    """A gate that lets anyone in."""

    def __init__(self) -> None:
        self.random = Random(0)
        self.static = StaticKey(self.random.randbytes(32))
        self.tunnels: dict[bytes, Tunnel] = {}
        self.gate = Gate(self.static, tunnel_for=self.tunnel_for, random_bytes=self.random.randbytes)

    def tunnel_for(self, public: bytes) -> Tunnel:
        if public not in self.tunnels:
            self.tunnels[public] = Tunnel(
                self.static, public, table=self.gate.table, random_bytes=self.random.randbytes
            )
        return self.tunnels[public]

    def flood(self, count: int, now: int) -> None:
        for number in range(count):
            source = self.random.randbytes(6)
            assert self.gate.receive(random_initiation(self.static.public, number), source, source, now) is None


def test_an_initiation_of_a_wanted_peer_gives_its_tunnel() -> None:
    door = Door()
    tunnel = door.gate.receive(memoryview(Knocker(door).knock(START_NS)), "home", HOME, START_NS)
    assert tunnel is not None
    assert [len(datagram) for datagram in tunnel.datagrams_to_send()] == [92]
    assert door.gate.datagrams_to_send() == []
    assert not door.gate.drops


def test_a_peer_that_is_not_wanted_is_refused() -> None:
    door = Door()
    gate = Gate(door.static, tunnel_for=lambda _: None, random_bytes=door.random.randbytes)
    assert gate.receive(Knocker(door).knock(START_NS), "home", HOME, START_NS) is None
    assert gate.drops == {"initiation: peer refused": 1}


def test_tunnel_for_is_asked_only_for_who_holds_the_key() -> None:
    door = Door()
    asked: list[bytes] = []
    gate = Gate(door.static, tunnel_for=asked.append, random_bytes=door.random.randbytes)
    for seed in range(20):
        gate.receive(random_initiation(door.static.public, seed), "home", HOME, START_NS)
    assert asked == []
    assert gate.drops == {"handshake: does not authenticate": 20}


@pytest.mark.parametrize("seen", ["initiation", "response"])
def test_a_wrong_mac1_is_counted_and_changes_nothing(seen: str) -> None:
    pair = Pair()
    pair.tap = []
    pair.a.initiate()
    to, message = pair.tap.pop()
    if seen == "response":
        to.receive(message)
        to, message = pair.tap.pop()
    changed = bytearray(message)
    changed[-32] ^= 1
    to.receive(bytes(changed))
    assert to.gate.drops == {f"{seen}: MAC1": 1}
    assert pair.tap == []
    to.receive(message)
    assert len(pair.tap) == 1


def test_calm_is_left_with_the_51st_initiation_at_once_and_comes_back_a_second_after_the_last_excess() -> None:
    door = Door()
    door.flood(CALM_INITIATIONS_PER_SECOND, START_NS)
    assert not door.gate.is_under_load(START_NS)
    door.flood(1, START_NS)
    assert door.gate.is_under_load(START_NS)
    door.flood(3, START_NS + 10 * MILLISECOND_NS)
    assert door.gate.is_under_load(START_NS + 10 * MILLISECOND_NS + SECOND_NS - 1)
    assert not door.gate.is_under_load(START_NS + 10 * MILLISECOND_NS + SECOND_NS)


def test_messages_with_a_wrong_mac1_make_no_load() -> None:
    door = Door()
    for seed in range(200):
        door.gate.receive(random_initiation(bytes(32), seed), "home", HOME, START_NS)
    assert not door.gate.is_under_load(START_NS)
    assert door.gate.drops == {"initiation: MAC1": 200}


def test_under_load_every_flooder_costs_one_cookie_reply_of_its_own_source() -> None:
    door = Door()
    door.flood(CALM_INITIATIONS_PER_SECOND + 10, START_NS)
    replies = door.gate.datagrams_to_send()
    assert len(replies) == 10
    assert len({source for _, source in replies}) == 10
    assert all(len(reply) == 64 and reply[:4] == b"\3\0\0\0" for reply, _ in replies)
    assert door.gate.drops == {
        "handshake: does not authenticate": CALM_INITIATIONS_PER_SECOND,
        "initiation: MAC2": 10,
    }


def test_a_new_peer_gets_in_under_a_flood_with_its_second_initiation() -> None:
    door = Door()
    peer = Knocker(door)
    for step in range(1200):
        now = START_NS + step * 5 * MILLISECOND_NS
        door.flood(10, now)
        door.gate.datagrams_to_send()
        if step == 100:
            peer.tunnel.initiate(now, WALL_NS + now)
        peer.tunnel.handle_timer(now, WALL_NS + now)
        for datagram in peer.tunnel.datagrams_to_send():
            tunnel = door.gate.receive(datagram, "home", HOME, now)
            for reply, source in door.gate.datagrams_to_send():
                assert source == "home"
                peer.gate.receive(reply, "door", b"", now)
            for response in tunnel.datagrams_to_send() if tunnel else []:
                assert peer.gate.receive(response, "door", b"", now) is peer.tunnel
    assert peer.tunnel.last_handshake_at is not None
    assert peer.tunnel.last_handshake_at - START_NS < 6 * SECOND_NS
    assert not peer.gate.drops


def macs_with_cookie(door: Door, now: int, source: bytes) -> CookieGenerator:
    """The MACs of someone at a source who has a cookie of a door under load."""
    peer = Knocker(door)
    assert door.gate.receive(peer.knock(now), source, source, now) is None
    ((reply, _),) = door.gate.datagrams_to_send()
    assert peer.gate.receive(reply, "door", b"", now) is None
    return peer.tunnel._macs


def stamped(macs: CookieGenerator, seed: int, now: int) -> bytes:
    return macs.add_macs(encode_initiation(Initiation(seed, Random(seed).randbytes(108))), now)


def loaded(door: Door, now: int) -> None:
    door.flood(CALM_INITIATIONS_PER_SECOND + 1, now)
    door.gate.datagrams_to_send()


def test_who_has_a_cookie_may_try_5_times_at_once_and_20_times_a_second() -> None:
    door = Door()
    loaded(door, START_NS)
    macs = macs_with_cookie(door, START_NS, HOME)
    door.gate.drops.clear()
    for seed in range(10):
        door.gate.receive(stamped(macs, seed, START_NS), HOME, HOME, START_NS)
    assert door.gate.drops == {
        "handshake: does not authenticate": SOURCE_INITIATIONS_AT_ONCE,
        "initiation: too many of its source": 5,
    }


def test_all_who_have_cookies_share_what_the_node_can_do() -> None:
    door = Door()
    loaded(door, START_NS)
    sources = [bytes((10, 0, 0, number, 5, 32)) for number in range(20)]
    macs = [macs_with_cookie(door, START_NS, source) for source in sources]
    door.gate.drops.clear()
    for number in range(80):
        source = sources[number % 20]
        door.gate.receive(stamped(macs[number % 20], number, START_NS), source, source, START_NS)
    assert door.gate.drops == {
        "handshake: does not authenticate": HANDSHAKES_PER_SECOND // 10,
        "initiation: too many": 80 - HANDSHAKES_PER_SECOND // 10,
    }


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        (bytes((10, 0, 0, 1, 5, 32)), bytes((10, 0, 0, 1, 9, 9)), True),
        (bytes((10, 0, 0, 1, 5, 32)), bytes((10, 0, 0, 2, 5, 32)), False),
        (
            b"\x20\x01\x0d\xb8\0\0\0\1" + bytes(8) + b"\5\x20",
            b"\x20\x01\x0d\xb8\0\0\0\1" + bytes(7) + b"\1\5\x20",
            True,
        ),
        (b"\x20\x01\x0d\xb8\0\0\0\1" + bytes(8) + b"\5\x20", b"\x20\x01\x0d\xb8\0\0\0\2" + bytes(8) + b"\5\x20", False),
        (V4_MAPPED + bytes((10, 0, 0, 1, 5, 32)), V4_MAPPED + bytes((10, 0, 0, 1, 9, 9)), True),
        (V4_MAPPED + bytes((10, 0, 0, 1, 5, 32)), V4_MAPPED + bytes((10, 0, 0, 2, 5, 32)), False),
        (bytes(range(32)) + b"\0\1", bytes(range(32)) + b"\0\2\0\3", True),
    ],
)
def test_ports_and_hosts_of_a_network_share_one_limit(one: bytes, other: bytes, *, shares: bool) -> None:
    door = Door()
    loaded(door, START_NS)
    first = macs_with_cookie(door, START_NS, one)
    second = macs_with_cookie(door, START_NS, other)
    for seed in range(SOURCE_INITIATIONS_AT_ONCE):
        door.gate.receive(stamped(first, seed, START_NS), one, one, START_NS)
    door.gate.drops.clear()
    door.gate.receive(stamped(second, 9, START_NS), other, other, START_NS)
    assert door.gate.drops["initiation: too many of its source"] == (1 if shares else 0)


def test_cookie_replies_that_nobody_takes_are_bounded() -> None:
    door = Door()
    door.flood(REPLIES + CALM_INITIATIONS_PER_SECOND + 100, START_NS)
    assert len(door.gate.datagrams_to_send()) == REPLIES
    assert door.gate.drops["cookie reply: not drained"] == 100


def test_a_cookie_reply_to_our_response_is_taken() -> None:
    pair = Pair()
    pair.tap = []
    pair.a.initiate()
    pair.b.receive(pair.tap.pop()[1])
    _, response = pair.tap.pop()
    reply = pair.a.gate._cookies.demand(response, HOME, START_NS)
    assert reply is not None
    pair.b.receive(reply)
    assert not pair.b.gate.drops
    pair.run(10 * SECOND_NS)
    pair.b.initiate()
    assert pair.tap.pop()[1][-16:] != bytes(16)


def test_a_cookie_reply_never_moves_the_endpoint() -> None:
    door = Door()
    loaded(door, START_NS)
    peer = Knocker(door)
    door.gate.receive(peer.knock(START_NS), HOME, HOME, START_NS)
    ((reply, _),) = door.gate.datagrams_to_send()
    assert peer.gate.receive(reply, "anyone", b"", START_NS) is None
    assert not peer.gate.drops


RECEIVED: list[Callable[[st.DataObject, bytes, list[int]], bytes]] = [
    lambda data, public, _: data.draw(st.binary(max_size=200)),
    lambda data, public, _: CookieGenerator(public).add_macs(
        b"\1\0\0\0" + data.draw(st.binary(min_size=112, max_size=112)), 0
    ),
    lambda data, public, indices: CookieGenerator(public).add_macs(
        b"\2\0\0\0"
        + bytes(4)
        + data.draw(st.sampled_from(indices)).to_bytes(4, "little")
        + data.draw(st.binary(min_size=48, max_size=48)),
        0,
    ),
    lambda data, public, indices: (
        b"\3\0\0\0"
        + data.draw(st.sampled_from(indices)).to_bytes(4, "little")
        + data.draw(st.binary(min_size=56, max_size=56))
    ),
    lambda data, public, _: (
        data.draw(st.sampled_from([b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0"]))
        + data.draw(st.binary(max_size=150))
    ),
]


@given(st.data())
def test_nothing_that_is_forged_raises_or_changes_a_handshake(data: st.DataObject) -> None:
    pair = Pair()
    pair.connect()
    pair.run(10 * SECOND_NS)
    pair.tap = []
    pair.a.initiate()
    gate = pair.a.gate
    before = (dict(gate.keypairs), dict(gate.table.handshakes))
    indices = [*gate.keypairs, *gate.table.handshakes, 0]
    for _ in range(data.draw(st.integers(1, 5))):
        forged = data.draw(st.sampled_from(RECEIVED))(data, pair.a.static.public, indices)
        assert gate.receive(forged, None, b"", pair.now) is None
        assert sum(gate.drops.values()) > 0
    assert (dict(gate.keypairs), dict(gate.table.handshakes)) == before
    assert pair.a.tunnel.datagrams_to_send() == []
    _, initiation = pair.tap.pop()
    pair.tap = None
    pair.carry(pair.b, initiation)
    pair.run(SECOND_NS)
    assert pair.a.events[1:] == [KeypairReady(initiator=True)]
    assert pair.a.tunnel.last_handshake_at != START_NS
