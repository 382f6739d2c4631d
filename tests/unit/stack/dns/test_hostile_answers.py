"""Whatever comes instead of an answer: it is counted, and nothing that was not asked for is believed."""

from __future__ import annotations

from time import process_time

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.dns.asking import FIRST, SECOND, STRANGER, Asking, message_of, reply_to
from tests.unit.stack.dns.server import Server
from weft.stack.dns.cache import Outcome
from weft.stack.dns.message import Kind
from weft.stack.dns.reply import MAX_RECORDS
from weft.stack.dns.resolver import MAX_EXCHANGES, MAX_FORGED, MAX_STREAM_BYTES

GOOD = "a.example. 60 IN A 192.0.2.1"
SERVER = Server(GOOD)


def changed(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("at", "mask", "reason"),
    [
        (0, 0x01, "answer: id"),
        (1, 0x80, "answer: id"),
        (2, 0x80, "answer: no response"),
        (2, 0x08, "answer: no response"),
        (5, 0x01, "answer: question"),
        (4, 0x01, "answer: question"),
        (12, 0x02, "answer: question"),
        (13, 0x01, "answer: question"),
        (24, 0x1D, "answer: question"),
        (26, 0x02, "answer: question"),
    ],
)
def test_forged_answer_changes_nothing(at: int, mask: int, reason: str) -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    good = SERVER.answer(exchange.data)
    asking.deliver(exchange, changed(good, at, mask))
    assert asking.resolver.drops == {reason: 1}
    assert question.answer is None
    assert asking.begun() == []
    asking.deliver(exchange, good)
    assert question.answer is not None
    assert question.answer.outcome is Outcome.FOUND


def test_answer_from_elsewhere_changes_nothing() -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    exchange = asking.one()
    for source in (SECOND, STRANGER, FIRST._replace(port=5353)):
        asking.deliver(exchange, SERVER.answer(exchange.data), source)
    assert asking.resolver.drops == {"answer: source": 3}
    assert question.answer is None


def test_answer_to_another_exchange_of_the_same_question_changes_nothing() -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    first = asking.one()
    asking.run_to_timer()
    second = asking.one()
    asking.deliver(second, SERVER.answer(first.data))
    assert question.answer is None
    assert asking.resolver.drops == {"answer: id": 1}


def test_answer_in_other_letters_is_asked_for_by_a_stream_and_taken_there() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, SERVER.answer(exchange.data[:12] + exchange.data[12:].swapcase()))
    assert question.answer is None
    assert asking.resolver.drops == {"answer: case of the question": 1}
    stream = asking.one()
    assert stream.is_stream
    lower = message_of(stream)[:12] + message_of(stream)[12:].lower()
    asking.deliver(stream, SERVER.answer(lower, is_stream=True))
    assert question.answer is not None
    assert question.answer.outcome is Outcome.FOUND


def test_letters_of_questions_are_mixed() -> None:
    asking = Asking()
    questions = set()
    for n in range(20):
        asking.ask("letters.example", Kind.A)
        questions.add(asking.one().data[12:])
        asking.now += n
        asking.resolver = Asking(seed=n).resolver
    assert len(questions) > 15


def test_many_forged_answers_make_it_ask_by_a_stream() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    good = SERVER.answer(exchange.data)
    for _ in range(MAX_FORGED):
        asking.deliver(exchange, changed(good, 0, 0xFF))
    assert asking.begun() == []
    asking.deliver(exchange, changed(good, 0, 0xFF))
    stream = asking.one()
    assert stream.is_stream
    asking.deliver(exchange, good)
    assert question.answer is None
    assert asking.resolver.drops["answer: late"] == 1


def test_addresses_that_nobody_asked_for_are_not_believed() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    planted = "bank.example. 60 IN A 203.0.113.66\na.example. 60 IN AAAA fc00::66"
    asking.deliver(exchange, reply_to(exchange, f"{GOOD}\n{planted}", authority=planted))
    assert question.answer is not None
    assert question.answer.addresses == (bytes([192, 0, 2, 1]),)
    for name, kind in (("bank.example", Kind.A), ("a.example", Kind.AAAA)):
        asking.ask(name, kind)
        assert len(asking.begun()) == 1


def test_target_of_an_alias_is_not_believed_under_its_own_name() -> None:
    asking = Asking()
    asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(
        exchange, reply_to(exchange, "a.example. 60 IN CNAME bank.example.\nbank.example. 60 IN A 203.0.113.66")
    )
    asking.ask("bank.example")
    assert len(asking.begun()) == 1


@pytest.mark.parametrize(
    ("records", "rcode"),
    [
        (GOOD, dns.rcode.NXDOMAIN),
        ("a.example. 60 IN CNAME .", dns.rcode.NOERROR),
        (r"a.example. 60 IN CNAME \000.example.", dns.rcode.NOERROR),
        (r"a.example. 60 IN CNAME \228.example.", dns.rcode.NOERROR),
        (r"a.example. 60 IN CNAME b\.c.example.", dns.rcode.NOERROR),
    ],
)
def test_contradiction_and_alias_to_no_host_are_failures(records: str, rcode: int) -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, records, rcode=rcode))
    assert question.answer is None
    assert asking.resolver.drops == {"answer: malformed": 1}
    assert asking.one().server == SECOND


def test_records_of_another_class_are_none() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, "a.example. 60 CH A example. 1\na.example. 60 CH CNAME b.example."))
    assert question.answer is not None
    assert question.answer.outcome is Outcome.NODATA


def test_giant_datagram_is_dropped_and_giant_stream_given_up() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, SERVER.answer(exchange.data) + bytes(60_000))
    assert question.answer is None
    asking.deliver(exchange, reply_to(exchange, flags=dns.flags.TC))
    stream = asking.one()
    asking.resolver.receive_stream(stream, (MAX_STREAM_BYTES + 1).to_bytes(2, "big"), asking.now)
    assert stream.is_over
    assert asking.resolver.drops["answer: too long"] == 2


def test_too_many_records_are_not_decoded() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, flags=dns.flags.TC))
    stream = asking.one()
    records = [f"a.example. 60 IN A 10.0.{n >> 8}.{n & 255}" for n in range(MAX_RECORDS + 1)]
    asking.deliver(stream, reply_to(stream, "\n".join(records)))
    assert question.answer is None
    assert asking.resolver.drops["answer: malformed"] == 1


def bomb(exchange_message: bytes, records: int) -> bytes:
    """A reply whose names are as long as names can be, each by a pointer at the one before it that has its labels."""
    question_end = 12 + exchange_message[12:].index(b"\0") + 5
    head = bytearray(exchange_message[:question_end])
    head[2] |= 0x80
    long_name = b"\x01x" * 120 + b"\0"
    record = long_name + bytes.fromhex("0005 0001 0000003c") + len(long_name).to_bytes(2, "big") + long_name
    body = bytearray(record)
    for _ in range(records - 1):
        body += (0xC000 | question_end).to_bytes(2, "big") + bytes.fromhex("0005 0001 0000003c 0002")
        body += (0xC000 | question_end).to_bytes(2, "big")
    head[4:12] = b"\0\x01" + records.to_bytes(2, "big") + bytes(4)
    return bytes(head + body)


def test_compression_bomb_takes_little_time() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, flags=dns.flags.TC))
    stream = asking.one()
    start = process_time()
    asking.deliver(stream, bomb(message_of(stream), MAX_RECORDS))
    assert process_time() - start < 1
    assert question.answer is not None
    assert question.answer.outcome is Outcome.NODATA


@pytest.mark.parametrize("target", [12, 14, 29, 0, 16_383])
def test_pointers_in_circles_are_failures(target: int) -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    good = bytearray(SERVER.answer(exchange.data))
    at = good.index(b"\xc0\x0c")
    good[at : at + 2] = (0xC000 | (at if target == 14 else target)).to_bytes(2, "big")
    asking.deliver(exchange, bytes(good))
    if target == 12:
        assert question.answer is not None
    else:
        assert question.answer is None or not question.answer.addresses


def test_one_question_begins_so_many_exchanges_at_most() -> None:
    """A server that fails twice and then gives another alias would have it asked for ever longer."""
    asking = Asking(FIRST, SECOND, FIRST, SECOND)
    question = asking.ask("n0.example")
    count = 0
    while question.answer is None:
        for exchange in asking.begun():
            count += 1
            name = dns.message.from_wire(exchange.data).question[0].name.canonicalize().to_text()
            alias = f"{name} 60 IN CNAME n{int(name[1:].split('.')[0]) + 1}.example."
            is_failure = count % 11
            asking.deliver(exchange, reply_to(exchange, "" if is_failure else alias, rcode=2 if is_failure else 0))
    assert count == MAX_EXCHANGES
    assert question.answer.outcome is Outcome.SERVFAIL


@given(data=st.binary(max_size=600), source=st.sampled_from([FIRST, STRANGER]))
def test_any_datagram_is_survived(data: bytes, source: object) -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.resolver.receive(exchange, source, data, asking.now)  # type: ignore[arg-type]
    assert question.answer is None
    assert sum(asking.resolver.drops.values()) == 1


@given(tail=st.binary(max_size=600), flags=st.binary(min_size=2, max_size=2), counts=st.binary(min_size=6, max_size=6))
def test_any_bytes_behind_the_right_question_are_survived(tail: bytes, flags: bytes, counts: bytes) -> None:
    asking = Asking()
    asking.ask("a.example")
    exchange = asking.one()
    end = 12 + len("a.example") + 2 + 4
    asking.deliver(exchange, exchange.data[:2] + flags + b"\0\x01" + counts + exchange.data[12:end] + tail)
    assert asking.resolver.next_timer() is None or asking.resolver.next_timer() > asking.now  # type: ignore[operator]


@given(st.data())
def test_any_change_of_a_good_answer_is_survived(data: st.DataObject) -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("www.example")
    exchange = asking.one()
    records = f"www.example. 60 IN CNAME a.example.\n{GOOD}"
    reply = bytearray(reply_to(exchange, records, authority="example. 60 IN SOA a. b. 1 2 3 4 5"))
    for at in data.draw(st.lists(st.integers(0, len(reply) - 1), min_size=1, max_size=6)):
        reply[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(reply)))
    asking.deliver(exchange, bytes(reply[:cut] if data.draw(st.booleans()) else reply))
    if question.answer is not None:
        assert all(len(address) == 4 for address in question.answer.addresses)


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_any_stream_is_survived(chunks: list[bytes]) -> None:
    asking = Asking(FIRST, SECOND)
    asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, flags=dns.flags.TC))
    stream = asking.one()
    for chunk in chunks:
        asking.resolver.receive_stream(stream, chunk, asking.now)
    assert len(stream._buffer) <= MAX_STREAM_BYTES + 2
