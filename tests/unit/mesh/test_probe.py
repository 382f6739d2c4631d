"""Ping and pong: what is believed of a pong, and how much a ping can make a node send."""

from __future__ import annotations

from collections import Counter
from random import Random
from struct import pack

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import example, given
from hypothesis import strategies as st

from weft.errors import DecodeError
from weft.identity import Identity, generate
from weft.mesh.multigram import CODEC_BYTES, PROBE, decode_multigram
from weft.mesh.probe import (
    MIN_PING_BYTES,
    PONG_BYTES,
    Answered,
    Lost,
    Ping,
    Pong,
    Prober,
    decode_probe,
    encode_ping,
    encode_pong,
)

S = 1_000_000_000
ALICE = generate(Random(1).randbytes)
BOB = generate(Random(2).randbytes)
MALLORY = generate(Random(3).randbytes)
ALICE_KEY, BOB_KEY, MALLORY_KEY = (identity.peer_id.public_key for identity in (ALICE, BOB, MALLORY))
LARGEST = 64_400


def body_of(multigram: bytes) -> bytes:
    codec, body = decode_multigram(multigram)
    assert codec == PROBE
    return body


def new_prober(identity: Identity = ALICE) -> Prober:
    return Prober(identity, Random(7).randbytes, Counter())


def pinged(now: int = S, size: int = MIN_PING_BYTES) -> tuple[Prober, bytes, bytes]:
    """A prober that has sent one ping, its id, and Bob's pong."""
    prober = new_prober()
    probe_id = prober.ping(now, size)
    (multigram,) = prober.datagrams_to_send()
    bob = new_prober(BOB)
    bob.receive(body_of(multigram), ALICE_KEY, LARGEST, now)
    (pong,) = bob.datagrams_to_send()
    return prober, probe_id, body_of(pong)


def test_a_ping_is_that_of_the_wire_format() -> None:
    multigram = encode_ping(b"8 bytes!", ALICE_KEY)
    assert multigram == bytes.fromhex("85c09000") + b"\1\0\0\0" + b"8 bytes!" + ALICE_KEY + bytes(70)


def test_a_pong_is_that_of_the_wire_format_and_its_signature_any_ed25519s() -> None:
    ping = Ping(pos=3, id=b"8 bytes!", public_key=ALICE_KEY, size=200)
    multigram = encode_pong(ping, BOB, 0x1234, 0x1_89AB_CDEF)
    head = bytes.fromhex("85c09000") + b"\2\3\0\0" + b"8 bytes!" + BOB_KEY
    tail = bytes.fromhex("1234 89abcdef")
    assert multigram[:-64] == head + tail
    signed = b"weft pong\0" + b"8 bytes!" + ALICE_KEY + BOB_KEY + b"\3" + tail
    Ed25519PublicKey.from_public_bytes(BOB_KEY).verify(multigram[-64:], signed)
    assert decode_probe(body_of(multigram)) == Pong(3, b"8 bytes!", BOB_KEY, 0x1234, 0x89ABCDEF, multigram[-64:])


def test_a_pong_tells_the_time_in_microseconds() -> None:
    _, _, pong = pinged(5_000_000_123_456)
    assert pong[46:50] == (5_000_000_123 % 2**32).to_bytes(4, "big")


def test_a_ping_is_answered_with_round_trip_and_size() -> None:
    prober, probe_id, pong = pinged(5 * S, 1400)
    prober.receive(pong, BOB_KEY, LARGEST, 5 * S + 20_000_000)
    assert prober.next_event() == Answered(probe_id, 20_000_000, 1400, LARGEST)
    assert prober.next_event() is None
    assert prober.next_timer() is None
    assert prober.drops == Counter()


@pytest.mark.parametrize("at", range(PONG_BYTES))
def test_a_pong_with_any_byte_altered_is_dropped(at: int) -> None:
    prober, probe_id, pong = pinged()
    altered = bytearray(pong)
    altered[at] ^= 1
    prober.receive(bytes(altered), BOB_KEY, LARGEST, S + 1)
    assert prober.next_event() is None
    assert sum(prober.drops.values()) + len(prober.datagrams_to_send()) == 1
    prober.receive(pong, BOB_KEY, LARGEST, S + 2)
    assert prober.next_event() == Answered(probe_id, 2, MIN_PING_BYTES, LARGEST), "the right one still counts"


def test_a_pong_of_another_key_is_dropped() -> None:
    prober, probe_id, _ = pinged()
    ping = Ping(0, probe_id, ALICE_KEY, MIN_PING_BYTES)
    by_mallory = body_of(encode_pong(ping, MALLORY, LARGEST, 0))
    prober.receive(by_mallory, BOB_KEY, LARGEST, S)
    prober.receive(by_mallory[:12] + BOB_KEY + by_mallory[44:], BOB_KEY, LARGEST, S)
    assert prober.drops == {"probe: bad signature": 2}
    assert prober.next_event() is None


def test_a_pong_for_another_pinger_is_dropped() -> None:
    prober, probe_id, _ = pinged()
    for_mallory = encode_pong(Ping(0, probe_id, MALLORY_KEY, MIN_PING_BYTES), BOB, LARGEST, 0)
    prober.receive(body_of(for_mallory), BOB_KEY, LARGEST, S)
    assert prober.drops == {"probe: bad signature": 1}
    assert prober.next_event() is None


def test_a_pong_of_a_peer_that_has_not_said_its_key_is_dropped() -> None:
    prober, _, pong = pinged()
    prober.receive(pong, None, LARGEST, S)
    assert prober.drops == {"probe: bad signature": 1}
    assert prober.next_event() is None


def test_an_unasked_pong_is_dropped() -> None:
    _, _, pong = pinged()
    prober = new_prober()
    prober.receive(pong, BOB_KEY, LARGEST, S)
    assert prober.drops == {"probe: unasked pong": 1}
    assert prober.next_event() is None


def test_a_replayed_pong_is_dropped() -> None:
    prober, _, pong = pinged()
    prober.receive(pong, BOB_KEY, LARGEST, S)
    prober.next_event()
    prober.receive(pong, BOB_KEY, LARGEST, S)
    assert prober.drops == {"probe: unasked pong": 1}
    assert prober.next_event() is None


def test_a_pong_after_the_time_out_is_dropped() -> None:
    prober, probe_id, pong = pinged(S, 1400)
    assert prober.next_timer() == 3 * S
    prober.handle_timer(3 * S - 1)
    assert prober.next_event() is None
    prober.handle_timer(3 * S)
    assert prober.next_event() == Lost(probe_id, 1400)
    prober.receive(pong, BOB_KEY, LARGEST, 3 * S + 1)
    assert prober.next_event() is None
    assert prober.drops == {"probe: unasked pong": 1}


def test_answers_to_several_pings_are_told_apart() -> None:
    prober = new_prober()
    ids = [prober.ping(number * S // 10, 200 + number) for number in range(5)]
    pongs = []
    bob = new_prober(BOB)
    for multigram in prober.datagrams_to_send():
        bob.receive(body_of(multigram), ALICE_KEY, LARGEST, S)
        pongs += bob.datagrams_to_send()
    assert len(set(ids)) == 5
    for number in (3, 1):
        prober.receive(body_of(pongs[number]), BOB_KEY, LARGEST, S)
        event = prober.next_event()
        assert isinstance(event, Answered)
        assert (event.id, event.size) == (ids[number], 200 + number)
    prober.handle_timer(10 * S)
    assert [prober.next_event() for _ in range(4)] == [*(Lost(ids[number], 200 + number) for number in (0, 2, 4)), None]


def test_more_pings_than_are_kept_lose_the_oldest() -> None:
    prober = new_prober()
    ids = []
    for number in range(66):
        ids.append(prober.ping(number))
        assert len(prober.datagrams_to_send()) == 1
    assert [prober.next_event() for _ in range(3)] == [Lost(ids[0], MIN_PING_BYTES), Lost(ids[1], MIN_PING_BYTES), None]


@given(st.lists(st.integers(0, S // 4), min_size=1, max_size=80))
@example([0] * 30)
@example([S - 1] + [0] * 10 + [2] + [0] * 10)
def test_at_most_10_pongs_go_out_in_any_second(pauses: list[int]) -> None:
    bob = new_prober(BOB)
    ping = body_of(encode_ping(b"8 bytes!", ALICE_KEY))
    now = 5 * S
    times: list[int] = []
    for pause in pauses:
        now += pause
        bob.receive(ping, ALICE_KEY, LARGEST, now)
        times += [now] * len(bob.datagrams_to_send())
        assert len([at for at in times if at > now - S]) <= 10
    assert len(times) + bob.drops["probe: too many pings"] == len(pauses)
    assert len(times) >= min(10, len(pauses))


def test_a_ping_each_100_ms_is_always_answered() -> None:
    bob = new_prober(BOB)
    for number in range(100):
        bob.receive(body_of(encode_ping(b"8 bytes!", ALICE_KEY)), ALICE_KEY, LARGEST, number * S // 10)
        assert len(bob.datagrams_to_send()) == 1


@given(st.integers(0, 2000), st.binary(min_size=8, max_size=8))
def test_a_ping_is_never_shorter_than_its_pong(size: int, probe_id: bytes) -> None:
    multigram = encode_ping(probe_id, ALICE_KEY, size)
    assert len(multigram) == max(size, MIN_PING_BYTES)
    ping = decode_probe(body_of(multigram))
    assert ping == Ping(0, probe_id, ALICE_KEY, len(multigram))
    assert len(encode_pong(ping, BOB, 0, 0)) <= len(multigram)


@given(st.integers(0, PONG_BYTES - 1))
def test_a_ping_that_is_shorter_than_its_pong_is_not_answered(length: int) -> None:
    bob = new_prober(BOB)
    bob.receive(body_of(encode_ping(b"8 bytes!", ALICE_KEY))[:length], ALICE_KEY, LARGEST, S)
    assert bob.datagrams_to_send() == []
    assert bob.drops == {"probe: undecodable": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"\3" + bytes(PONG_BYTES - 1),
        b"\0" + bytes(PONG_BYTES - 1),
        b"\1\0\1\0" + bytes(PONG_BYTES - 4),
        b"\1\0\0\1" + bytes(PONG_BYTES - 4),
        b"\1" + bytes(PONG_BYTES - 2) + b"\1",
        b"\1" + bytes(43) + b"\1" + bytes(PONG_BYTES),
        b"\2" + bytes(PONG_BYTES),
    ],
)
def test_a_probe_that_no_sender_makes_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_probe(body)


PINGS = st.builds(
    lambda pos, head, more: b"\1" + bytes([pos]) + bytes(2) + head + bytes(70 + more),
    st.integers(0, 255),
    st.binary(min_size=40, max_size=40),
    st.integers(0, 50),
)
PONGS = st.builds(
    lambda pos, rest: b"\2" + bytes([pos]) + bytes(2) + rest,
    st.integers(0, 255),
    st.binary(min_size=110, max_size=110),
)


@given(
    st.one_of(st.binary(max_size=160), PINGS, PONGS), st.none() | st.tuples(st.integers(0, 113), st.integers(0, 255))
)
def test_random_probes_decode_to_themselves_or_raise_a_decode_error(
    body: bytes, change: tuple[int, int] | None
) -> None:
    if change is not None and len(body) > change[0]:
        body = body[: change[0]] + bytes([change[1]]) + body[change[0] + 1 :]
    prober, _, _ = pinged()
    prober.receive(body, BOB_KEY, LARGEST, S)
    assert prober.next_event() is None
    try:
        probe = decode_probe(body)
    except DecodeError:
        assert prober.drops == {"probe: undecodable": 1}
        return
    if isinstance(probe, Ping):
        assert body == pack(">BBH8s32s", 1, probe.pos, 0, probe.id, probe.public_key).ljust(
            probe.size - CODEC_BYTES, b"\0"
        )
    else:
        again = pack(">BBH8s32sHI", 2, probe.pos, 0, probe.id, probe.public_key, probe.largest_message, probe.time_us)
        assert body == again + probe.signature
