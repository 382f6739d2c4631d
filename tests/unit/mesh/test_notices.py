"""Notices: what two machines learn of each other over a bad link, and how long they try."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.burst.size import LossReport
from weft.errors import DecodeError
from weft.mesh.multigram import CODEC_BYTES, NOTICE, decode_multigram
from weft.mesh.notices import Hello, HelloReceived, LossReported, Notice, Notices, decode_notice, encode_notice
from weft.testing import MS, Faults, Pair, S

ALICE = Hello(b"A" * 32, 64_400, 1352, frozenset({"uso"}))
BOB = Hello(b"B" * 32, 60_000, 1280, frozenset())

Event = HelloReceived | LossReported


@dataclass
class End:
    """One machine behind the contract of the pair; a restart puts another in its place."""

    notices: Notices
    sent: int = 0

    def receive_datagram(self, datagram: bytes, now: int) -> None:
        codec, body = decode_multigram(datagram)
        assert codec == NOTICE
        self.notices.receive(body, now)

    def handle_timer(self, now: int) -> None:
        self.notices.handle_timer(now)

    def datagrams_to_send(self) -> list[bytes]:
        datagrams = self.notices.datagrams_to_send()
        assert all(len(datagram) <= CODEC_BYTES + 1024 for datagram in datagrams)
        self.sent += sum("n" in body_of(datagram) for datagram in datagrams)
        return datagrams

    def next_event(self) -> Event | None:
        return self.notices.next_event()

    def next_timer(self) -> int | None:
        return self.notices.next_timer()


def body_of(datagram: bytes) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.msgpack.decode(datagram[CODEC_BYTES:])
    return body


def notices(boot: bytes = b"bootbob1", hello: Hello = BOB) -> Notices:
    return Notices(boot, hello)


def ends(faults: Faults, seed: int = 0) -> tuple[Pair[Event], End, End]:
    left, right = End(notices(b"bootaaaa", ALICE)), End(notices())
    pair: Pair[Event] = Pair(left, right, faults=faults, seed=seed)
    for end in (left, right):
        end.notices.start(pair.clock.now)
    pair.flush()
    return pair, left, right


def test_over_a_good_link_both_know_each_other_after_one_way() -> None:
    pair, left, right = ends(Faults(latency_ns=10 * MS))
    pair.advance(10 * MS)
    assert (left.notices.their_hello, right.notices.their_hello) == (BOB, ALICE)
    pair.advance(100 * S)
    assert (left.sent, right.sent) == (1, 1)
    assert pair.left.events == [HelloReceived(BOB)]
    assert left.next_timer() is None


def test_an_unanswered_notice_is_repeated_after_1_2_4_8_and_16_s_and_then_never() -> None:
    """To a stock peer: it says nothing."""
    machine = notices()
    machine.start(10 * S)
    times = []
    now = 10 * S
    while True:
        for datagram in machine.datagrams_to_send():
            assert body_of(datagram)["n"] == 1
            times.append((now - 10 * S) // S)
        due = machine.next_timer()
        if due is None:
            break
        machine.handle_timer(due - 1)
        assert machine.datagrams_to_send() == []
        now = due
        machine.handle_timer(now)
    assert times == [0, 1, 3, 7, 15, 31]
    machine.handle_timer(now + 10**6 * S)
    assert machine.datagrams_to_send() == []


def test_a_new_session_begins_anew_to_tell_a_peer_that_never_acknowledged() -> None:
    machine = notices()
    for start in (S, 200 * S):
        machine.start(start)
        while (due := machine.next_timer()) is not None:
            machine.handle_timer(due)
        assert [body_of(datagram)["n"] for datagram in machine.datagrams_to_send()] == [1] * 6


def test_a_newer_hello_is_repeated_as_often_as_the_first() -> None:
    machine = notices()
    machine.start(S)
    for _ in range(3):
        machine.handle_timer(machine.next_timer() or 0)
    machine.datagrams_to_send()
    machine.say(ALICE, 100 * S)
    while (due := machine.next_timer()) is not None:
        machine.handle_timer(due)
    assert [body_of(datagram)["n"] for datagram in machine.datagrams_to_send()] == [2] * 6


def test_the_first_notice_has_number_1_and_acknowledges_nothing() -> None:
    machine = notices()
    machine.say(BOB, S)
    (datagram,) = machine.datagrams_to_send()
    fields = body_of(datagram)
    assert (fields["n"], fields.get("a", 0), fields.get("of")) == (1, 0, None)


def test_a_new_session_tells_nothing_to_a_peer_that_acknowledged() -> None:
    pair, left, _ = ends(Faults(latency_ns=10 * MS))
    pair.advance(S)
    left.notices.start(pair.clock.now)
    assert left.notices.datagrams_to_send() == []


def test_a_notice_is_the_map_of_the_wire_format() -> None:
    machine = notices(b"bootaaaa", ALICE)
    machine.start(S)
    (datagram,) = machine.datagrams_to_send()
    assert datagram[:4] == bytes.fromhex("87c09000")
    fields = body_of(datagram)
    known = {"b": b"bootaaaa", "n": 1, "id": b"A" * 32, "v": [1], "burst": 64_400, "caps": ["uso"], "mtu": 1352}
    assert {name: fields[name] for name in known} == known
    machine.report(LossReport(1, 2, 3, 4, 5, 6))
    (datagram,) = machine.datagrams_to_send()
    assert body_of(datagram) == {"r": [1, 2, 3, 4, 5, 6]}


FAULTS = st.builds(
    Faults,
    latency_ns=st.sampled_from([MS, 50 * MS, 400 * MS]),
    jitter_ns=st.sampled_from([0, 50 * MS]),
    loss=st.sampled_from([0.0, 0.1, 0.5, 0.8]),
    reordering=st.sampled_from([0.0, 0.3]),
    held_back_ns=st.sampled_from([2 * MS, 500 * MS, 3 * S]),
    duplication=st.sampled_from([0.0, 0.3]),
)


@given(FAULTS, st.integers(0, 1000))
@example(Faults(loss=1.0), 0)
def test_each_learns_the_others_hello_unless_every_try_was_lost(faults: Faults, seed: int) -> None:
    pair, left, right = ends(faults, seed)
    pair.advance(60 * S)
    for end, wire, other in ((left, pair.to_left, BOB), (right, pair.to_right, ALICE)):
        came = sum("n" in body_of(data) for data in wire.sent)
        assert came <= 6
        if end.notices.their_hello is None:
            assert came == 6
            assert faults.loss > 0
        else:
            assert end.notices.their_hello == other
        assert end.notices.drops == Counter()
        assert end.next_timer() is None


@given(FAULTS, st.integers(0, 1000), st.sampled_from([S // 2, 5 * S, 40 * S]))
def test_a_restart_is_noticed_and_told_anew(faults: Faults, seed: int, at: int) -> None:
    faults = replace(faults, loss=min(faults.loss, 0.1))
    pair, left, right = ends(faults, seed)
    pair.advance(at)
    # The new process has other keys, so what is on its way to it does not arrive.
    pair.to_right.take()
    pair.to_left.take()
    newer = replace(BOB, burst=0)
    right.notices = notices(b"bootbob2", newer)
    right.notices.start(pair.clock.now)
    left.notices.start(pair.clock.now)
    pair.advance(60 * S)
    assert left.notices.their_hello == newer
    assert right.notices.their_hello == ALICE
    assert (left.next_timer(), right.next_timer()) == (None, None)


@given(FAULTS, st.integers(0, 1000), st.lists(st.integers(0, 8 * S), min_size=1, max_size=4))
def test_the_last_of_several_hellos_is_what_the_other_side_holds(faults: Faults, seed: int, pauses: list[int]) -> None:
    faults = replace(faults, loss=min(faults.loss, 0.1))
    pair, left, right = ends(faults, seed)
    hello = ALICE
    for number, pause in enumerate(pauses):
        pair.advance(pause)
        hello = replace(hello, burst=number)
        left.notices.say(hello, pair.clock.now)
    pair.advance(60 * S)
    assert right.notices.their_hello == hello
    told = [event.hello for event in pair.right.events if isinstance(event, HelloReceived)]
    assert told[-1] == hello
    assert len(told) == len({told_.burst for told_ in told}), "a notice is told once, however often it comes"
    assert left.next_timer() is None


def receive(machine: Notices, now: int = S, **fields: object) -> None:
    machine.receive(msgspec.msgpack.encode(fields), now)


HELLO = {"b": b"their001", "n": 1, "id": b"T" * 32, "v": [1], "burst": 100, "caps": ["uso", "new"], "mtu": 9000}


def test_each_numbered_notice_is_acknowledged_and_an_older_one_changes_nothing() -> None:
    machine = notices()
    receive(machine, **{**HELLO, "n": 3})
    receive(machine, **{**HELLO, "n": 2, "burst": 5})
    receive(machine, **{**HELLO, "n": 3, "burst": 5})
    assert machine.their_hello == Hello(b"T" * 32, 100, 9000, frozenset({"uso", "new"}), (1,))
    assert [body_of(datagram)["a"] for datagram in machine.datagrams_to_send()] == [3, 3, 3]
    assert machine.next_event() == HelloReceived(machine.their_hello)
    assert machine.next_event() is None


def test_an_acknowledgement_for_another_boot_is_ignored() -> None:
    machine = notices()
    machine.start(S)
    receive(machine, a=1, of=b"notmine!")
    receive(machine, a=1)
    receive(machine, of=b"bootbob1")
    assert machine.next_timer() == 2 * S
    receive(machine, a=1, of=b"bootbob1")
    assert machine.next_timer() is None


def test_an_acknowledgement_of_what_was_never_sent_is_ignored() -> None:
    machine = notices()
    machine.start(S)
    receive(machine, a=2, of=b"bootbob1")
    assert machine.next_timer() == 2 * S
    machine.say(ALICE, S)
    receive(machine, a=1, of=b"bootbob1")
    assert machine.next_timer() == 2 * S, "the newer one is still open"
    receive(machine, a=2, of=b"bootbob1")
    assert machine.next_timer() is None


def test_a_notice_of_another_boot_is_answered_with_who_we_are() -> None:
    machine = notices()
    machine.start(S)
    receive(machine, **HELLO)
    receive(machine, a=1, of=b"bootbob1")
    machine.datagrams_to_send()
    receive(machine, **{**HELLO, "b": b"their002", "burst": 7})
    numbered = [body_of(datagram) for datagram in machine.datagrams_to_send()]
    assert [fields.get("n") for fields in numbered] == [2, None]
    assert machine.their_hello is not None
    assert machine.their_hello.burst == 7


def test_a_loss_report_is_an_event_and_is_not_acknowledged() -> None:
    machine = notices()
    receive(machine, r=[1, 2, 3, 4, 5, 6])
    assert machine.next_event() == LossReported(LossReport(1, 2, 3, 4, 5, 6))
    assert machine.datagrams_to_send() == []
    assert machine.their_hello is None


def test_unknown_keys_are_ignored() -> None:
    machine = notices()
    receive(machine, **HELLO, future={"nested": [1, {"x": None}]}, z=1.5)
    assert machine.their_hello is not None
    assert machine.drops == Counter()


@pytest.mark.parametrize("lacks", ["b", "id"])
def test_a_numbered_notice_without_boot_or_identity_is_dropped(lacks: str) -> None:
    machine = notices()
    receive(machine, **{name: value for name, value in HELLO.items() if name != lacks})
    receive(machine, **{**HELLO, "n": 0})
    assert machine.their_hello is None
    assert machine.drops == {"notice: incomplete": 2}
    assert machine.datagrams_to_send() == []


WRONG: dict[str, object] = {
    "b": b"short",
    "n": -1,
    "a": "1",
    "id": b"T" * 31,
    "v": 1,
    "burst": 65_536,
    "caps": "uso",
    "mtu": -1,
    "r": [1, 2, 3, 4, 5],
    "of": b"123456789",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_can_not_be_drops_the_notice(name: str) -> None:
    machine = notices()
    receive(machine, **{**HELLO, name: WRONG[name]})
    assert machine.their_hello is None
    assert machine.drops == {"notice: undecodable": 1}


def test_a_notice_has_at_most_1024_bytes() -> None:
    body = msgspec.msgpack.encode({"n": 1, "x": ""})
    fits = msgspec.msgpack.encode({"n": 1, "x": "y" * (1024 - len(body) - 2)})
    assert len(fits) == 1024
    assert decode_notice(fits).n == 1
    longer = msgspec.msgpack.encode({"n": 1, "x": "y" * (1024 - len(body) - 1)})
    assert len(longer) == 1025
    with pytest.raises(DecodeError):
        decode_notice(longer)


TEXTS = st.text(max_size=10)
NOTICES = st.builds(
    Notice,
    b=st.none() | st.binary(min_size=8, max_size=8),
    n=st.none() | st.integers(0, 2**62),
    a=st.none() | st.integers(0, 2**62),
    of=st.none() | st.binary(min_size=8, max_size=8),
    id=st.none() | st.binary(min_size=32, max_size=32),
    v=st.none() | st.lists(st.integers(0, 2**62), max_size=16),
    burst=st.none() | st.integers(0, 65_535),
    caps=st.none() | st.lists(TEXTS, max_size=16),
    mtu=st.none() | st.integers(0, 65_535),
    r=st.none() | st.lists(st.integers(0, 2**62), min_size=6, max_size=6),
)


@given(NOTICES)
def test_what_is_encoded_is_decoded(notice: Notice) -> None:
    codec, body = decode_multigram(encode_notice(notice))
    assert codec == NOTICE
    assert decode_notice(body) == notice


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(0, 9), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from(["b", "n", "a", "of", "id", "v", "burst", "caps", "mtu", "r", "x"])


@given(st.one_of(st.binary(max_size=60), st.dictionaries(KEYS, VALUES).map(msgspec.msgpack.encode)), st.data())
@example(b"\xdf\xff\xff\xff\xff", None)
@example(b"\x81\xa1x" + b"\x91" * 1000, None)
@example(b"\x81\xa1x\xdd\xff\xff\xff\xff", None)
@example(b"\x81\xa1\xff\x01", None)
@example(b"\x81\xa4caps\x91\xa1\xff", None)
def test_garbage_raises_nothing(body: bytes, data: st.DataObject | None) -> None:
    if data is not None and body and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(body) - 1))
        body = body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :]
    machine = notices()
    machine.start(S)
    machine.receive(body, 2 * S)
    try:
        decode_notice(body)
    except DecodeError:
        assert machine.drops == {"notice: undecodable": 1}
        assert machine.next_event() is None
