"""Floods of SYNs: bounded queues, and cookies beyond them (RFC 4987)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.tcp.script import Script
from weft.stack.tcp.cookie import SEGMENTS, TICK_NS, check_cookie, make_cookie, note_options, read_note
from weft.stack.tcp.options import Options

SECRET = bytes(range(32))
KEY = b"both ends!!!"
U32 = st.integers(0, 0xFFFFFFFF)


def flooded(script: Script, backlog: int = 2) -> None:
    """As many have begun a handshake as may, and do not finish it."""
    script.listen(backlog=backlog)
    for port in range(1, 1 + backlog):
        script.inject("S", seq=0, port=port)
        script.expect("S.", seq=0, ack=1, port=port)


def test_flood_keeps_nothing(script: Script) -> None:
    flooded(script)
    for port in range(100, 600):
        script.inject("S", seq=port, port=port)
        script.expect("S.", seq=0, ack=port + 1, port=port, window=65535)
    assert len(script.host.tcp.connections) == 2
    assert script.drops("tcp: too many half-open connections") == 500


def test_cookie_brings_a_connection(script: Script) -> None:
    flooded(script)
    script.inject("S", seq=0, mss=800, ws=7, sack=True, ts=(500, 0))
    answer = script.expect("S.", seq=0, ack=1, mss=1000, ws=8, sack=True)
    assert answer.options.timestamps is not None
    assert answer.options.timestamps[1] == 500
    script.advance(300)
    script.inject("P.", seq=1, ack=1, data=b"hello", ts=(501, 0), window=100)
    script.take_all()
    connection = script.accept()
    assert connection.is_established
    assert script.receive() == b"hello"
    # 536 is the next smaller size that a cookie can tell.
    assert connection.maximum_segment == 536 - 12
    assert connection.shift == 7
    assert connection.sender.window == 100 << 7
    assert connection.sender.recovery.selective
    assert script.listener.half_open == 2
    script.take_all()
    script.send(b"answer")
    script.expect("P.", seq=1, ack=6, data=b"answer", window=1024)


def test_cookie_without_timestamps_knows_only_the_segment_size(script: Script) -> None:
    flooded(script)
    script.inject("S", seq=0, mss=1460, ws=7, sack=True)
    script.expect("S.", seq=0, ack=1, options=Options(maximum_segment=1000))
    script.inject(".", seq=1, ack=1, window=5000)
    connection = script.accept()
    assert connection.maximum_segment == 1000
    assert connection.sender.window == 5000
    assert not connection.sender.recovery.selective
    script.send(b"x")
    script.expect("P.", seq=1, ack=1, data=b"x", options=Options(), window=65535)


def test_cookie_of_a_peer_without_scaling_and_blocks(script: Script) -> None:
    flooded(script)
    script.inject("S", seq=0, ts=(500, 0))
    answer = script.expect("S.", seq=0, ack=1)
    assert answer.options.shift is None
    assert not answer.options.sack_permitted
    script.inject(".", seq=1, ack=1, window=5000, ts=(500, 0))
    connection = script.accept()
    assert connection.sender.window == 5000
    assert connection.maximum_segment == 536 - 12
    script.send(b"x")
    script.expect("P.", seq=1, ack=1, data=b"x", window=65535)


def test_cookie_over_ipv6() -> None:
    with Script(version=6) as script:
        flooded(script)
        script.inject("S", seq=0)
        script.expect("S.", seq=0, ack=1, options=Options(maximum_segment=1000))
        script.inject(".", seq=1, ack=1)
        assert script.accept().maximum_segment == 1000
        script.inject("S", seq=0, mss=1220, port=7)
        script.expect("S.", seq=0, ack=1, port=7)


@pytest.mark.parametrize(("seq", "ack"), [(1, 2), (1, 0), (2, 1), (0, 1), (1, 1 << 27)])
def test_acknowledgment_of_another_cookie_is_reset(script: Script, seq: int, ack: int) -> None:
    flooded(script)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject(".", seq=seq, ack=ack)
    script.expect("R", seq=ack)
    assert script.listener.accept() is None


def test_cookie_of_another_port_is_reset(script: Script) -> None:
    flooded(script)
    script.inject("S", seq=0, port=7)
    given_to = script.expect("S.", seq=0, ack=1, port=7)
    number = int.from_bytes(given_to.packet[24:28], "big")
    script.inject(".", seq=1, ack=number + 1, port=8)
    script.expect("R", seq=(number + 1) & 0xFFFFFFFF, port=8)


def test_cookie_with_a_syn_is_reset(script: Script) -> None:
    flooded(script)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("S.", seq=1, ack=1)
    script.expect("R", seq=1)


def test_no_cookie_is_believed_before_one_was_given(script: Script) -> None:
    script.listen()
    script.inject(".", seq=1, ack=1)
    script.expect("R", seq=1)


def test_cookie_is_believed_for_a_while(script: Script) -> None:
    flooded(script, backlog=1)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.advance(40_000)
    script.take_all()
    script.inject(".", seq=1, ack=1)
    assert script.accept().is_established


def test_cookie_is_not_believed_for_ever(script: Script) -> None:
    flooded(script, backlog=1)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.advance(129_000)
    script.take_all()
    script.inject(".", seq=1, ack=1)
    script.expect("R", seq=1)


def test_cookie_for_a_listener_that_is_full_comes_again(script: Script) -> None:
    flooded(script, backlog=1)
    script.inject("S", seq=0, port=7)
    script.expect("S.", seq=0, ack=1, port=7)
    script.inject(".", seq=1, ack=1, port=1)
    assert script.listener.is_full
    script.inject(".", seq=1, ack=1, port=7)
    assert script.drops("tcp: backlog is full") == 1
    script.listener.accept()
    script.inject(".", seq=1, ack=1, port=7)
    assert script.accept().remote.port == 7


def test_reset_that_follows_a_cookie_is_nothing(script: Script) -> None:
    flooded(script)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    script.inject("R", seq=1)
    script.inject("R.", seq=1, ack=1)


# The cookie itself.


@given(U32, st.integers(0, 0xFFFF), st.integers(0, 10**18), st.integers(0, TICK_NS))
def test_cookie_tells_the_segment_size(sequence: int, size: int, now: int, later: int) -> None:
    cookie = make_cookie(SECRET, KEY, sequence, size, now)
    assert 0 <= cookie <= 0xFFFFFFFF
    told = check_cookie(SECRET, KEY, sequence, cookie, now + later)
    assert told == max([each for each in SEGMENTS if each <= size], default=SEGMENTS[0])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (0, 216),
        (535, 216),
        (536, 536),
        (939, 536),
        (940, 940),
        (1219, 940),
        (1220, 1220),
        (1279, 1220),
        (1280, 1280),
        (1311, 1280),
        (1312, 1312),
        (1439, 1312),
        (1440, 1440),
        (8939, 1440),
        (8940, 8940),
        (65_535, 8940),
    ],
)
def test_sizes_that_a_cookie_can_tell(said: int, told: int) -> None:
    assert check_cookie(SECRET, KEY, 1, make_cookie(SECRET, KEY, 1, said, 0), 0) == told


@given(U32, st.integers(0, 10**18), st.integers(2, 31), st.integers(0, TICK_NS - 1))
def test_cookie_is_good_for_two_ticks(sequence: int, now: int, ticks: int, rest: int) -> None:
    begin = now // TICK_NS * TICK_NS
    cookie = make_cookie(SECRET, KEY, sequence, 1460, begin)
    assert check_cookie(SECRET, KEY, sequence, cookie, begin + 2 * TICK_NS - 1) == 1440
    assert check_cookie(SECRET, KEY, sequence, cookie, begin + ticks * TICK_NS + rest) is None


@pytest.mark.parametrize("bit", range(32))
def test_cookie_with_a_bit_changed_is_none(bit: int) -> None:
    cookie = make_cookie(SECRET, KEY, 77, 1460, 0)
    assert check_cookie(SECRET, KEY, 77, cookie ^ 1 << bit, 0) is None


def test_cookie_is_for_both_ends_one_number_and_one_secret() -> None:
    cookie = make_cookie(SECRET, KEY, 77, 1460, 0)
    assert check_cookie(SECRET, KEY, 77, cookie, 0) == 1440
    assert check_cookie(bytes(32), KEY, 77, cookie, 0) is None
    assert check_cookie(SECRET, KEY + b"!", 77, cookie, 0) is None
    assert check_cookie(SECRET, KEY, 78, cookie, 0) is None


@given(U32, st.none() | st.integers(0, 14), st.booleans())
def test_note_in_a_timestamp(timestamp: int, shift: int | None, sack: bool) -> None:
    noted = note_options(timestamp, Options(shift=shift, sack_permitted=sack))
    assert read_note(noted) == (shift, sack)
    assert (timestamp - noted) & 0xFFFFFFFF < 32


def test_cookie_lives_for_two_times_64_seconds() -> None:
    cookie = make_cookie(SECRET, KEY, 7, 1460, 0)
    assert check_cookie(SECRET, KEY, 7, cookie, 127_999_999_999) == 1440
    assert check_cookie(SECRET, KEY, 7, cookie, 128_000_000_000) is None
    # Nor does it come from what is still to be.
    assert check_cookie(SECRET, KEY, 7, make_cookie(SECRET, KEY, 7, 1460, 64_000_000_000), 63_999_999_999) is None


def test_timestamp_of_a_cookie_is_that_of_our_clock_but_for_the_note(script: Script) -> None:
    """It is not later, so that what follows is newer."""
    flooded(script)
    said = []
    for _ in range(3):
        script.inject("S", seq=0, ts=(500, 0))
        answer = script.expect("S.", seq=0, ack=1)
        assert answer.options.timestamps is not None
        said.append(answer.options.timestamps[0])
        script.advance_quietly(64)
    assert [(after - said[0]) & 0xFFFFFFFF for after in said] == [0, 64, 128]
    script.inject(".", seq=1, ack=1, ts=(501, 0))
    script.accept()
    script.send(b"x")
    (sent,) = script.take_all()
    assert sent.options.timestamps is not None
    assert 192 <= (sent.options.timestamps[0] - said[0]) & 0xFFFFFFFF < 192 + 32
