"""MAC1, MAC2 and cookies."""

from __future__ import annotations

from random import Random

from weft.noise.cookie import CookieChecker, CookieGenerator
from weft.noise.messages import CookieReply, Initiation, decode_cookie_reply, encode_initiation
from weft.noise.timers import COOKIE_LIFETIME_NS, SECOND_NS

PUBLIC = Random(1).randbytes(32)
NOW = 50 * SECOND_NS
HOME = b"\x0a\0\0\1\x05\x20"


def ends(seed: int = 2) -> tuple[CookieChecker, CookieGenerator]:
    return CookieChecker(PUBLIC, Random(seed).randbytes), CookieGenerator(PUBLIC)


def body(number: int = 0) -> bytes:
    return encode_initiation(Initiation(number, Random(number).randbytes(108)))


def given_cookie(checker: CookieChecker, generator: CookieGenerator, now: int = NOW, source: bytes = HOME) -> bytes:
    message = generator.add_macs(body(), now)
    reply = checker.demand(message, source, now)
    assert reply is not None
    assert generator.receive_reply(decode_cookie_reply(reply), now)
    return reply


def test_mac1_is_right_for_the_right_key_only() -> None:
    checker, generator = ends()
    message = generator.add_macs(body(), NOW)
    assert checker.has_mac1(message)
    assert not CookieChecker(bytes(32), Random(3).randbytes).has_mac1(message)
    for place in (0, 115, 116, 131):
        changed = bytearray(message)
        changed[place] ^= 1
        assert not checker.has_mac1(bytes(changed))


def test_without_a_cookie_mac2_is_zeros() -> None:
    _, generator = ends()
    assert generator.add_macs(body(), NOW)[-16:] == bytes(16)


def test_a_message_with_the_cookie_is_let_in() -> None:
    checker, generator = ends()
    given_cookie(checker, generator)
    message = generator.add_macs(body(1), NOW + SECOND_NS)
    assert checker.has_mac1(message)
    assert checker.demand(message, HOME, NOW + SECOND_NS) is None


def test_a_cookie_holds_for_its_source_only() -> None:
    checker, generator = ends()
    given_cookie(checker, generator)
    message = generator.add_macs(body(1), NOW)
    assert checker.demand(message, HOME[:4] + b"\x05\x21", NOW) is not None
    assert checker.demand(message, HOME, NOW) is None


def test_mac2_of_one_message_does_not_fit_another() -> None:
    checker, generator = ends()
    given_cookie(checker, generator)
    mac2 = generator.add_macs(body(1), NOW)[-16:]
    assert checker.demand(generator.add_macs(body(2), NOW)[:-16] + mac2, HOME, NOW) is not None


def test_a_cookie_is_not_used_after_its_lifetime() -> None:
    checker, generator = ends()
    given_cookie(checker, generator)
    assert generator.add_macs(body(1), NOW + COOKIE_LIFETIME_NS - 1)[-16:] != bytes(16)
    assert generator.add_macs(body(1), NOW + COOKIE_LIFETIME_NS)[-16:] == bytes(16)


def test_the_secret_is_replaced_after_its_lifetime() -> None:
    checker, generator = ends()
    given_cookie(checker, generator)
    message = generator.add_macs(body(1), NOW)
    assert checker.demand(message, HOME, NOW + COOKIE_LIFETIME_NS - 1) is None
    assert checker.demand(message, HOME, NOW + COOKIE_LIFETIME_NS) is not None


def test_nonces_never_repeat_and_their_prefix_lasts_as_long_as_the_secret() -> None:
    checker, generator = ends()
    message = generator.add_macs(body(), NOW)
    nonces: list[bytes] = []
    for now in (NOW, NOW + 1, NOW + COOKIE_LIFETIME_NS):
        for _ in range(100):
            reply = checker.demand(message, HOME, now)
            assert reply is not None
            nonces.append(decode_cookie_reply(reply).nonce)
    assert len(set(nonces)) == 300
    assert len({nonce[:16] for nonce in nonces}) == 2


def test_a_forged_reply_is_refused_and_the_real_one_still_taken() -> None:
    checker, generator = ends()
    message = generator.add_macs(body(), NOW)
    reply = decode_cookie_reply(checker.demand(message, HOME, NOW) or b"")
    for forged in (
        CookieReply(0, reply.nonce, bytes(32)),
        CookieReply(0, bytes(24), reply.sealed),
        decode_cookie_reply(checker.demand(CookieGenerator(PUBLIC).add_macs(body(5), NOW), HOME, NOW) or b""),
    ):
        assert not generator.receive_reply(forged, NOW)
    assert generator.receive_reply(reply, NOW)


def test_a_reply_is_taken_once_for_each_message() -> None:
    checker, generator = ends()
    reply = given_cookie(checker, generator)
    assert not generator.receive_reply(decode_cookie_reply(reply), NOW)


def test_a_reply_that_nobody_asked_for_is_refused() -> None:
    checker, generator = ends()
    message = CookieGenerator(PUBLIC).add_macs(body(), NOW)
    assert not generator.receive_reply(decode_cookie_reply(checker.demand(message, HOME, NOW) or b""), NOW)


def test_what_was_forgotten_is_not_used() -> None:
    checker, generator = ends()
    given_cookie(checker, generator)
    generator.forget()
    assert generator.add_macs(body(1), NOW)[-16:] == bytes(16)
