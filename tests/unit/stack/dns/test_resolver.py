"""What a resolver asks, of whom and when, and what becomes of the answers."""

from __future__ import annotations

from itertools import pairwise

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.unit.stack.dns.asking import FIRST, SECOND, Asking, S, message_of, reply_to
from tests.unit.stack.dns.server import Server
from weft.errors import UsageError
from weft.stack.dns.cache import Outcome
from weft.stack.dns.message import Kind
from weft.stack.dns.reply import MAX_ALIASES
from weft.stack.dns.resolver import MAX_EXCHANGES, MAX_QUESTIONS, QUESTION_NS, Resolver

SERVER = Server(
    """
    a.example. 60 IN A 192.0.2.1
    a.example. 60 IN A 192.0.2.2
    a.example. 60 IN AAAA fc00::1
    only4.example. 60 IN A 192.0.2.4
    www.example. 30 IN CNAME a.example.
    gone.example. 30 IN CNAME nothing.example.
    outside.example. 30 IN CNAME a.elsewhere.
    a.elsewhere. 20 IN A 198.51.100.1
    unasked.elsewhere. 20 IN A 198.51.100.2
    """
)


def test_addresses_are_found_of_either_kind() -> None:
    asking = Asking()
    answer = asking.result("a.example", SERVER)
    assert answer.outcome is Outcome.FOUND
    assert sorted(answer.addresses) == [bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])]
    assert asking.result("A.Example.", SERVER, Kind.AAAA).addresses == (b"\xfc" + bytes(14) + b"\x01",)


def test_every_question_has_its_event_and_its_exchanges_end() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    (exchange,) = asking.serve(SERVER)
    assert asking.events() == [question]
    assert asking.resolver.exchanges_ended() == [exchange]
    assert exchange.is_over
    assert asking.resolver.next_timer() is None
    again = asking.ask("a.example")
    assert asking.begun() == []
    assert asking.events() == [again]


def test_aliases_are_followed_and_the_smallest_ttl_holds() -> None:
    asking = Asking()
    answer = asking.result("www.example", SERVER)
    assert answer.names == ("www.example", "a.example")
    assert answer.expires_at == asking.now + 30 * S


def test_alias_that_a_server_does_not_follow_is_asked_for() -> None:
    asking = Asking()
    question = asking.ask("outside.example")
    first = asking.one()
    asking.deliver(first, reply_to(first, "outside.example. 30 IN CNAME a.elsewhere."))
    assert first.is_over
    assert question.answer is None
    (second,) = asking.serve(SERVER)
    assert dns.message.from_wire(second.data).question[0].name.canonicalize().to_text() == "a.elsewhere."
    assert question.answer is not None
    assert question.answer.names == ("outside.example", "a.elsewhere")
    assert question.answer.expires_at == asking.now + 20 * S


def test_what_is_remembered_of_a_target_is_not_asked_again() -> None:
    asking = Asking()
    asking.result("a.elsewhere", SERVER)
    question = asking.ask("outside.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, "outside.example. 30 IN CNAME a.elsewhere."))
    assert asking.begun() == []
    assert question.answer is not None
    assert question.answer.addresses == (bytes([198, 51, 100, 1]),)


def test_alias_to_a_peer_ends_at_the_peer_and_no_server_is_asked_for_it() -> None:
    address = b"\xfc" + bytes(range(15))
    asking = Asking(known=lambda name: (address,) if name == "bob.weft" else None)
    for kind, outcome in ((Kind.AAAA, Outcome.FOUND), (Kind.A, Outcome.NODATA)):
        question = asking.ask("bob.example", kind)
        exchange = asking.one()
        asking.deliver(exchange, reply_to(exchange, "bob.example. 30 IN CNAME bob.weft."))
        assert asking.begun() == []
        assert question.answer is not None
        assert question.answer.outcome is outcome


@pytest.mark.parametrize(
    ("name", "kind", "outcome"),
    [
        ("nothing.example", Kind.A, Outcome.NXDOMAIN),
        ("gone.example", Kind.A, Outcome.NXDOMAIN),
        ("only4.example", Kind.AAAA, Outcome.NODATA),
        ("no host name", Kind.A, Outcome.NXDOMAIN),
        ("a..example", Kind.A, Outcome.NXDOMAIN),
        ("x" * 64 + ".example", Kind.A, Outcome.NXDOMAIN),
        ("", Kind.A, Outcome.NXDOMAIN),
        (".", Kind.A, Outcome.NXDOMAIN),
        ("\ud800.example", Kind.A, Outcome.NXDOMAIN),
    ],
)
def test_names_without_addresses(name: str, kind: Kind, outcome: Outcome) -> None:
    asking = Asking()
    answer = asking.result(name, SERVER, kind)
    assert (answer.outcome, answer.addresses) == (outcome, ())


def test_absence_is_remembered_as_long_as_the_soa_says() -> None:
    asking = Asking()
    asking.result("nothing.example", SERVER)
    asking.now += 299 * S
    # What does not exist has no address of the other kind either.
    question = asking.ask("nothing.example", Kind.AAAA)
    assert asking.begun() == []
    assert question.answer is not None
    assert question.answer.outcome is Outcome.NXDOMAIN
    asking.now += S
    asking.ask("nothing.example")
    assert len(asking.begun()) == 1


def test_absence_without_soa_is_not_remembered() -> None:
    asking = Asking()
    for rcode, outcome in ((dns.rcode.NOERROR, Outcome.NODATA), (dns.rcode.NXDOMAIN, Outcome.NXDOMAIN)):
        question = asking.ask("nothing.example")
        exchange = asking.one()
        asking.deliver(exchange, reply_to(exchange, rcode=rcode))
        assert question.answer is not None
        assert question.answer.outcome is outcome


def test_soa_of_a_zone_that_does_not_hold_the_name_says_nothing() -> None:
    asking = Asking()
    question = asking.ask("nothing.example")
    exchange = asking.one()
    soa = "elsewhere. 600 IN SOA a. b. 1 1 1 1 300"
    asking.deliver(exchange, reply_to(exchange, authority=soa, rcode=dns.rcode.NXDOMAIN))
    assert question.answer is not None
    asking.ask("nothing.example")
    assert len(asking.begun()) == 1


def test_the_same_question_is_asked_once_for_all_who_want_it() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    assert asking.ask("A.EXAMPLE") is question
    assert asking.ask("a.example", Kind.AAAA) is not question
    asking.begun()
    assert len(asking.resolver._questions) == 2


def test_silence_has_the_servers_asked_in_turn_until_it_is_given_up() -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    begun, times = asking.begun(), [asking.now]
    while question.answer is None:
        asking.run_to_timer()
        times.append(asking.now)
        begun += asking.begun()
    assert [exchange.server for exchange in begun] == [FIRST, SECOND] * 3
    assert [(after - before) // S for before, after in pairwise(times)] == [1, 1, 2, 2, 4, 4]
    assert question.answer.outcome is Outcome.TIMEOUT
    assert len({exchange.data[:2] for exchange in begun}) == len(begun)
    assert all(exchange.is_over for exchange in begun)


def test_servers_however_many_do_not_prolong_a_question() -> None:
    asking = Asking(FIRST, SECOND, FIRST, SECOND)
    start, question = asking.now, asking.ask("a.example")
    while question.answer is None:
        asking.run_to_timer()
    assert asking.now - start == QUESTION_NS


def test_late_answer_to_an_earlier_exchange_is_taken() -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    early = asking.one()
    asking.run_to_timer()
    asking.deliver(early, SERVER.answer(early.data))
    assert question.answer is not None
    assert question.answer.outcome is Outcome.FOUND


def test_server_that_answered_last_is_asked_first() -> None:
    asking = Asking(FIRST, SECOND)
    asking.ask("a.example")
    asking.one()
    asking.run_to_timer()
    asking.serve(SERVER)
    asking.ask("only4.example")
    assert asking.one().server == SECOND


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.YXDOMAIN])
def test_failure_of_one_server_has_the_next_asked_at_once(rcode: int) -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, rcode=rcode))
    assert exchange.is_over
    (second,) = asking.serve(SERVER)
    assert second.server == SECOND
    assert question.answer is not None
    assert question.answer.outcome is Outcome.FOUND


def test_failure_of_all_servers_is_told_and_remembered_for_a_second() -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    while question.answer is None:
        for exchange in asking.begun():
            asking.deliver(exchange, reply_to(exchange, rcode=dns.rcode.SERVFAIL))
    assert question.answer.outcome is Outcome.SERVFAIL
    assert asking.resolver.drops["answer: failure"] == 6
    asking.ask("a.example")
    assert asking.begun() == []
    asking.now += S
    asking.ask("a.example")
    assert len(asking.begun()) == 1


def test_referral_is_no_answer() -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, authority="example. 60 IN NS ns.example."))
    assert question.answer is None
    assert asking.one().server == SECOND


@pytest.mark.parametrize("with_question", [True, False])
def test_server_that_does_not_know_edns_is_asked_without(with_question: bool) -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    query = dns.message.from_wire(exchange.data)
    assert (query.edns, query.payload) == (0, 1232)
    reply = reply_to(exchange, rcode=dns.rcode.FORMERR)
    asking.deliver(exchange, reply if with_question else reply[:4] + bytes(8))
    second = asking.one()
    assert dns.message.from_wire(second.data).edns == -1
    asking.deliver(second, SERVER.answer(second.data))
    assert question.answer is not None
    assert question.answer.outcome is Outcome.FOUND


def test_error_of_a_socket_has_the_next_server_asked_but_an_answer_is_still_taken() -> None:
    asking = Asking(FIRST, SECOND)
    question = asking.ask("a.example")
    first = asking.one()
    asking.resolver.receive_failure(first, asking.now)
    asking.resolver.receive_failure(first, asking.now)
    assert asking.one().server == SECOND
    asking.deliver(first, SERVER.answer(first.data))
    assert question.answer is not None
    asking.resolver.receive_failure(first, asking.now)
    assert asking.begun() == []


def test_truncated_answer_is_asked_for_by_a_stream() -> None:
    server = Server("\n".join(f"many.example. 60 IN A 10.0.{n // 250}.{n % 250 + 1}" for n in range(200)))
    asking = Asking()
    question = asking.ask("many.example")
    datagram, stream = asking.serve(server)
    assert (datagram.is_stream, stream.is_stream) == (False, True)
    assert (datagram.server, stream.server) == (FIRST, FIRST)
    assert stream.data[:2] == len(stream.data[2:]).to_bytes(2, "big")
    assert question.answer is not None
    assert len(question.answer.addresses) == 64


def test_stream_is_read_in_whatever_pieces_it_comes() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, flags=dns.flags.TC))
    stream = asking.one()
    reply = SERVER.answer(message_of(stream), is_stream=True)
    for byte in len(reply).to_bytes(2, "big") + reply:
        assert question.answer is None
        asking.resolver.receive_stream(stream, bytes([byte]), asking.now)
    assert question.answer is not None
    assert question.answer.outcome is Outcome.FOUND
    asking.resolver.receive_stream(stream, b"more", asking.now)
    assert asking.resolver.drops["answer: late"] == 1


def test_stream_that_ends_or_stays_silent_leads_to_the_next_server() -> None:
    asking = Asking(FIRST, SECOND)
    asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, flags=dns.flags.TC))
    stream = asking.one()
    asking.resolver.receive_failure(stream, asking.now)
    assert stream.is_over
    second = asking.one()
    assert (second.server, second.is_stream) == (SECOND, False)
    asking.deliver(second, reply_to(second, flags=dns.flags.TC))
    assert asking.one().is_stream
    asking.run_to_timer()
    third = asking.one()
    assert (third.server, third.is_stream) == (FIRST, False)


def test_server_whose_answers_are_always_truncated_but_has_no_streams_is_given_up() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    count = 0
    while question.answer is None:
        for exchange in asking.begun():
            count += 1
            if exchange.is_stream:
                asking.resolver.receive_failure(exchange, asking.now)
            else:
                asking.deliver(exchange, reply_to(exchange, flags=dns.flags.TC))
    assert count == 6
    assert question.answer.outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("length", [1, 2, 3])
def test_loop_of_aliases_is_refused_in_one_answer_and_across_questions(length: int) -> None:
    records = [f"n{n}.example. 60 IN CNAME n{(n + 1) % length}.example." for n in range(length)]
    whole, single = Asking(), Asking()
    assert whole.result("n0.example", Server("\n".join(records))).outcome is Outcome.SERVFAIL
    question = single.ask("n0.example")
    for _ in range(MAX_EXCHANGES):
        for exchange in single.begun():
            name = dns.message.from_wire(exchange.data).question[0].name.canonicalize().to_text()
            record = next(record for record in records if record.startswith(name))
            single.deliver(exchange, reply_to(exchange, record))
    assert question.answer is not None
    assert question.answer.outcome is Outcome.SERVFAIL
    assert single.resolver.drops["answer: aliases"] > 0


def test_two_names_that_lead_to_each_other_do_not_wait_for_each_other() -> None:
    asking = Asking()
    questions = [asking.ask("a.example"), asking.ask("b.example")]
    server = Server("a.example. 60 IN CNAME b.example.\nb.example. 60 IN CNAME a.example.")
    asking.serve(server)
    assert [question.answer and question.answer.outcome for question in questions] == [Outcome.SERVFAIL] * 2


@pytest.mark.parametrize(("aliases", "outcome"), [(MAX_ALIASES, Outcome.FOUND), (MAX_ALIASES + 1, Outcome.SERVFAIL)])
def test_aliases_are_followed_so_far_and_no_further(aliases: int, outcome: Outcome) -> None:
    records = [f"n{n}.example. 60 IN CNAME n{n + 1}.example." for n in range(aliases)]
    server = Server("\n".join([*records, f"n{aliases}.example. 60 IN A 192.0.2.1"]))
    assert Asking().result("n0.example", server).outcome is outcome
    asking = Asking()
    question = asking.ask("n0.example")
    while question.answer is None:
        for exchange in asking.begun():
            name = dns.message.from_wire(exchange.data).question[0].name.canonicalize().to_text()
            at = int(name[1:].split(".")[0])
            record = records[at] if at < aliases else f"{name} 60 IN A 192.0.2.1"
            asking.deliver(exchange, reply_to(exchange, record))
    assert question.answer.outcome is outcome


def test_answer_without_time_to_live_serves_those_who_wait_and_nobody_later() -> None:
    asking = Asking()
    question = asking.ask("a.example")
    exchange = asking.one()
    asking.deliver(exchange, reply_to(exchange, "a.example. 0 IN A 192.0.2.1"))
    assert question.answer is not None
    assert question.answer.addresses
    asking.ask("a.example")
    assert len(asking.begun()) == 1


def test_questions_at_once_are_bounded() -> None:
    asking = Asking()
    questions = [asking.ask(f"n{n}.example") for n in range(MAX_QUESTIONS + 1)]
    assert questions[-1].answer is not None
    assert questions[-1].answer.outcome is Outcome.SERVFAIL
    assert asking.resolver.drops == {"query: too many": 1}
    assert len(asking.begun()) == MAX_QUESTIONS
    while asking.resolver.next_timer() is not None:
        asking.run_to_timer()
    # Refused is not failed: it may be asked at once when there is room.
    asking.ask(f"n{MAX_QUESTIONS}.example")
    assert len(asking.begun()) == 1


def test_resolver_without_or_with_too_many_servers_is_refused() -> None:
    for servers in ([], [FIRST] * 5):
        with pytest.raises(UsageError, match="servers"):
            Resolver(servers, bytes, lambda _: None)
