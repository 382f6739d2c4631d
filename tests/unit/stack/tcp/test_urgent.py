"""Urgent data (RFC 9293 section 3.8.5; RFC 6093)."""

from __future__ import annotations

from tests.unit.stack.tcp.script import Script


def test_3_8_5_must_30_must_62_pointer_points_behind_the_urgent_data(script: Script) -> None:
    script.accepted()
    script.send(b"normal")
    script.expect("P.", seq=1, ack=1, data=b"normal")
    script.inject(".", seq=1, ack=7)
    script.send(b"urgent", urgent=True)
    script.expect("PU.", seq=7, ack=1, data=b"urgent", urgent=6)
    script.inject(".", seq=1, ack=13)
    script.send(b"normal")
    script.expect("P.", seq=13, ack=1, data=b"normal", urgent=0)


def test_3_8_5_must_31_urgent_data_of_any_length(script: Script) -> None:
    script.accepted(ws=4)
    script.connection.sender.cubic.window = 200_000
    script.inject(".", seq=1, ack=1, window=10_000)
    script.send(70_500, urgent=True)
    for number in range(70):
        left = 70_500 - 1000 * number
        script.expect("U.", seq=1 + 1000 * number, ack=1, length=1000, segment=0, urgent=min(left, 65535))
    script.inject(".", seq=1, ack=70_001, window=10_000)
    script.expect("PU.", seq=70_001, ack=1, length=500, urgent=500)


def test_3_8_5_urgent_data_that_is_sent_again_is_urgent_still(script: Script) -> None:
    script.accepted()
    script.send(3000, urgent=True)
    for number in range(3):
        script.expect(
            "PU." if number == 2 else "U.", seq=1 + 1000 * number, ack=1, length=1000, urgent=3000 - 1000 * number
        )
    script.expect("U.", seq=1, ack=1, length=1000, urgent=3000, after=200)


def test_3_8_5_data_is_not_urgent_by_itself(script: Script) -> None:
    script.accepted().send(b"normal")
    script.flush()
    script.expect("P.", seq=1, ack=1, data=b"normal", urgent=0)


def test_3_8_5_pointer_is_told_while_the_window_is_closed(script: Script) -> None:
    script.accepted(window=10)
    script.send(10)
    script.expect("P.", seq=1, ack=1, length=10)
    script.inject(".", seq=1, ack=11, window=0)
    script.send(b"urgent", urgent=True)
    script.expect("U.", seq=11, ack=1, length=1, urgent=6, after=200)


def test_3_8_5_must_32_user_is_told_that_something_is_urgent(script: Script) -> None:
    connection = script.accepted()
    assert not connection.is_urgent
    script.inject("PU.", seq=1, ack=1, data=b"abcdef", urgent=3)
    assert script.events() == [connection]
    assert connection.is_urgent
    # The pointer advances without data.
    script.inject("U.", seq=7, ack=1, urgent=10)
    assert script.events() == [connection]
    script.expect(".", seq=1, ack=7, after=40)


def test_3_8_5_must_33_user_learns_whether_more_of_it_is_to_come(script: Script) -> None:
    connection = script.accepted()
    script.inject("PU.", seq=1, ack=1, data=b"abcdef", urgent=3)
    assert connection.is_urgent
    script.receive(2)
    assert connection.is_urgent
    script.receive(1)
    assert not connection.is_urgent
    script.inject("PU.", seq=7, ack=1, data=b"g", urgent=3)
    script.receive()
    assert connection.is_urgent
    script.inject("P.", seq=8, ack=1, data=b"hi")
    script.receive()
    assert not connection.is_urgent
    script.expect(".", seq=1, ack=10, after=40)


def test_3_8_5_last_byte_before_the_fin_may_be_urgent(script: Script) -> None:
    connection = script.accepted()
    script.inject("FPU.", seq=1, ack=1, data=b"!", urgent=1)
    script.expect(".", seq=1, ack=3)
    assert connection.is_urgent
    script.receive()
    assert not connection.is_urgent


def test_3_8_5_pointer_does_not_recede(script: Script) -> None:
    connection = script.accepted()
    script.inject("PU.", seq=1, ack=1, data=b"abc", urgent=6)
    script.inject("PU.", seq=4, ack=1, data=b"d", urgent=1)
    script.receive()
    assert connection.is_urgent
    script.expect(".", seq=1, ack=5, after=40)


def test_3_8_5_pointer_of_zero_or_without_the_flag_is_nothing(script: Script) -> None:
    connection = script.accepted()
    script.inject("PU.", seq=1, ack=1, data=b"abc", urgent=0)
    script.inject("P.", seq=4, ack=1, data=b"abc", urgent=9)
    assert not connection.is_urgent
    script.expect(".", seq=1, ack=7, after=40)


def test_3_8_5_a_single_urgent_byte(script: Script) -> None:
    script.accepted()
    script.send(b"!", urgent=True)
    script.expect("PU.", seq=1, ack=1, data=b"!", urgent=1)


def test_3_8_5_urgency_is_over_with_the_last_urgent_byte(script: Script) -> None:
    script.accepted()
    script.send(b"!", urgent=True)
    script.expect("PU.", seq=1, ack=1, data=b"!", urgent=1)
    script.inject(".", seq=1, ack=2)
    # What follows may be super again.
    script.send(3000)
    script.expect("P.", seq=2, ack=1, length=3000, segment=1000, urgent=0)


def test_3_8_5_nothing_is_urgent_when_all_was_taken(script: Script) -> None:
    connection = script.accepted()
    script.inject("PU.", seq=1, ack=1, data=b"ab", urgent=2)
    assert script.receive(1) == b"a"
    assert connection.is_urgent
    assert script.receive(1) == b"b"
    assert not connection.is_urgent
    script.expect(".", seq=1, ack=3, after=40)
