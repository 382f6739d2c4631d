"""What other WireGuard engines shipped wrong, each as a test with the name of the defect."""

from __future__ import annotations

import logging
import pkgutil
from itertools import pairwise

import pytest
from cryptography.exceptions import InvalidTag

import weft.noise
from tests.unit.noise.pair import START_NS, WALL_NS, Link, Node, Pair, open_packet
from weft.burst.header import DATA_HEADER
from weft.burst.seal import seal_packet
from weft.errors import UsageError
from weft.noise.cookie import CookieGenerator
from weft.noise.gate import Gate
from weft.noise.handshake import HandshakeRefusedError, InitiatorHandshake, ResponderHandshake, TransportKeys
from weft.noise.messages import Response, encode_response
from weft.noise.primitives import StaticKey
from weft.noise.timers import (
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME_NS,
    REKEY_AFTER_TIME_NS,
    REKEY_ATTEMPT_TIME_NS,
    REKEY_TIMEOUT_NS,
    SECOND_NS,
)
from weft.noise.tunnel import HandshakeFailed, Tunnel, Unanswered


def connected(seed: int = 1) -> Pair:
    pair = Pair(seed, Link(delay_ns=(0, 0)))
    pair.connect()
    return pair


def index_sent_on(node: Node) -> int:
    """The index that the node writes now."""
    pair = node.pair
    pair.tap = []
    assert node.send(b"?")
    _, datagram = pair.tap.pop()
    pair.tap = None
    return int(DATA_HEADER.unpack_from(datagram)[1])


def held_handshake(pair: Pair) -> tuple[bytes, bytes]:
    """Let `a` begin anew; give the initiation and the response without delivering the response."""
    pair.run(10 * SECOND_NS)
    pair.tap = []
    pair.a.initiate()
    _, initiation = pair.tap.pop()
    pair.b.receive(initiation)
    _, response = pair.tap.pop()
    pair.tap = None
    return initiation, response


# Wrong session rotation.


def test_rotation_the_responder_sends_on_the_old_keypair_until_data_came_on_the_new_one() -> None:
    pair = connected()
    old = index_sent_on(pair.b)
    _, response = held_handshake(pair)
    assert index_sent_on(pair.b) == old
    pair.tap = []
    pair.a.receive(response)
    ((_, keepalive),) = pair.tap
    pair.tap = None
    assert index_sent_on(pair.b) == old
    pair.b.receive(keepalive)
    assert index_sent_on(pair.b) != old


def test_rotation_the_initiator_sends_on_the_new_keypair_at_once_and_still_opens_the_old_one() -> None:
    pair = connected()
    old = index_sent_on(pair.a)
    _, response = held_handshake(pair)
    pair.tap = []
    assert pair.b.send(b"on the old one")
    ((_, late),) = pair.tap
    pair.a.receive(response)
    pair.tap = None
    assert index_sent_on(pair.a) != old
    pair.a.receive(late)
    assert pair.a.received == [b"on the old one"]


def test_rotation_a_response_that_got_lost_leaves_the_session_as_it_was() -> None:
    pair = connected()
    held_handshake(pair)
    pair.a.send(b"to b")
    pair.b.send(b"to a")
    pair.run(0)
    assert (pair.a.received, pair.b.received) == ([b"to a"], [b"to b"])


# Session lifetime over the specification.


def test_lifetime_nothing_is_sealed_at_180_s_even_if_the_timer_is_late() -> None:
    pair = connected()
    for node in pair.nodes:
        assert node.tunnel.keypair_for_sending(START_NS + REJECT_AFTER_TIME_NS - 1) is not None
        assert node.tunnel.keypair_for_sending(START_NS + REJECT_AFTER_TIME_NS) is None
        assert not node.tunnel.is_up(START_NS + REJECT_AFTER_TIME_NS)


def test_lifetime_nothing_is_opened_at_180_s() -> None:
    pair = connected()
    pair.run_until(START_NS + REJECT_AFTER_TIME_NS - 1)
    pair.tap = []
    assert pair.b.send(b"late")
    _, late = pair.tap.pop()
    pair.run(1)
    pair.a.receive(late)
    assert pair.a.unopened == 1
    assert pair.a.received == []


def test_lifetime_use_does_not_make_it_longer() -> None:
    pair = connected()
    pair.link.loss = 1.0
    for _ in range(20):
        pair.run(10 * SECOND_NS)
        pair.b.send(b"data")
    assert not pair.b.tunnel.is_up(pair.now)
    assert pair.b.gate.keypairs == {}


# No Reject-After-Messages.


def test_reject_after_messages_sealing_stops_and_a_handshake_is_asked_for() -> None:
    pair = connected()
    pair.run(10 * SECOND_NS)
    keypair = pair.a.tunnel.keypair_for_sending(pair.now)
    assert keypair is not None
    keypair.counter = REJECT_AFTER_MESSAGES
    assert keypair.take_counter() is None
    assert pair.a.tunnel.keypair_for_sending(pair.now) is None
    pair.a.drain()
    pair.run(SECOND_NS)
    assert pair.a.send(b"on the next one")


def test_reject_after_messages_opening_stops() -> None:
    pair = connected()
    keypair = pair.b.tunnel.keypair_for_sending(pair.now)
    assert keypair is not None
    message = seal_packet(keypair, REJECT_AFTER_MESSAGES, b"beyond")
    pair.a.receive(message)
    assert pair.a.unopened == 1


# Wrong type of the cookie reply.


def test_cookie_reply_has_type_3_and_64_bytes_and_the_index_of_the_initiation() -> None:
    pair = Pair()
    pair.tap = []
    pair.a.initiate()
    _, initiation = pair.tap.pop()
    reply = pair.b.gate._cookies.demand(initiation, b"", START_NS)
    assert reply is not None
    assert reply[:8] == b"\3\0\0\0" + initiation[4:8]
    assert len(reply) == 64


# Empty keepalives handed to the application.


def test_keepalives_are_empty_and_bring_no_answer() -> None:
    pair = connected()
    pair.a.send(b"data")
    pair.run(60 * SECOND_NS)
    assert pair.b.received == [b"data"]
    assert pair.a.received == []
    assert pair.b.sent_types[4] == 1
    assert pair.a.sent_types[4] == 2


# A forged response that blocks the handshake.


def test_a_forged_response_does_not_block_the_real_one() -> None:
    pair = Pair()
    pair.tap = []
    pair.a.initiate()
    _, initiation = pair.tap.pop()
    index = int.from_bytes(initiation[4:8], "little")
    macs = CookieGenerator(pair.a.static.public)
    ephemeral = StaticKey(bytes(32)).public
    for noise in (ephemeral + bytes(16), bytes(48), pair.b.static.public + bytes(16)):
        pair.a.receive(macs.add_macs(encode_response(Response(7, index, noise)), START_NS))
    assert sum(pair.a.gate.drops.values()) == 3
    assert pair.a.tunnel.is_handshaking
    pair.tap = None
    pair.b.receive(initiation)
    pair.run(SECOND_NS)
    assert pair.a.tunnel.last_handshake_at == START_NS + 10_000_000
    assert pair.b.tunnel.is_up(pair.now)


def test_a_response_that_comes_twice_counts_once() -> None:
    pair = connected()
    _, response = held_handshake(pair)
    pair.a.receive(response)
    indices = set(pair.a.gate.keypairs)
    pair.a.receive(response)
    assert set(pair.a.gate.keypairs) == indices
    assert pair.a.gate.drops == {"response: unknown index": 1}


# Endless repetition of initiations.


def test_retries_end_after_90_s() -> None:
    pair = Pair()
    pair.link.loss = 1.0
    pair.a.initiate()
    pair.run(3600 * SECOND_NS)
    times = pair.a.initiations_at
    assert times[-1] - times[0] < REKEY_ATTEMPT_TIME_NS
    assert min(later - earlier for earlier, later in pairwise(times)) >= REKEY_TIMEOUT_NS
    assert pair.a.events == [*[Unanswered()] * 17, HandshakeFailed()]


def test_retries_of_a_rekey_end_after_90_s_too() -> None:
    pair = connected()
    pair.run_until(START_NS + REKEY_AFTER_TIME_NS)
    pair.link.loss = 1.0
    pair.a.send(b"data")
    pair.run(3600 * SECOND_NS)
    assert pair.a.initiations_at[-1] - START_NS - REKEY_AFTER_TIME_NS < REKEY_ATTEMPT_TIME_NS


# Keys in logs.


def test_no_secret_appears_in_any_text_of_an_object() -> None:
    private, preshared = bytes(range(1, 33)), b"a preshared key of 32 bytes here"
    static = StaticKey(private)
    peer = StaticKey(b"\7" * 32)
    gate = Gate(static, tunnel_for=lambda _: None, random_bytes=bytes)
    tunnel = Tunnel(static, peer.public, table=gate.table, random_bytes=bytes, preshared_key=preshared)
    tunnel.initiate(START_NS, WALL_NS)
    initiator = InitiatorHandshake(static, peer.public, StaticKey(b"\5" * 32))
    responder = ResponderHandshake.read_initiation(peer, initiator.write_initiation(bytes(12)))
    response, keys = responder.write_response(StaticKey(b"\6" * 32), preshared)
    initiator.read_response(response, preshared)
    secrets = [private, preshared, keys.send, keys.receive, b"\5" * 32, b"\6" * 32, b"\7" * 32]
    pair = connected()
    keypair = pair.a.tunnel.keypair_for_sending(pair.now)
    objects = [static, gate, tunnel, initiator, responder, keys, keypair, pair.a.tunnel, HandshakeRefusedError("why")]
    for text in [form(thing) for thing in objects for form in (repr, str)]:
        for secret in secrets:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    assert isinstance(keys, TransportKeys)


def test_no_secret_appears_in_an_error() -> None:
    secret = b"not quite a key of 32 bytes long!"
    static = StaticKey(bytes(32))
    for attempt in (
        lambda: StaticKey(secret),
        lambda: Pair().a.tunnel.set_preshared_key(secret),
        lambda: Tunnel(static, static.public, table=Pair().a.gate.table, random_bytes=bytes, preshared_key=secret),
    ):
        with pytest.raises(UsageError) as raised:
            attempt()
        assert "not quite" not in str(raised.value)


def test_the_room_logs_nothing() -> None:
    for module in pkgutil.iter_modules(weft.noise.__path__):
        loaded = __import__(f"weft.noise.{module.name}", fromlist=["*"])
        assert logging not in vars(loaded).values()


# Replay of an initiation.


def test_an_initiation_played_again_is_dropped_whenever_it_comes() -> None:
    pair = connected()
    initiation, _ = held_handshake(pair)
    indices = set(pair.b.gate.keypairs)
    for wait in (0, 1, 200):
        pair.run(wait * SECOND_NS)
        indices &= set(pair.b.gate.keypairs)
        assert pair.b.gate.receive(initiation, None, b"", pair.now) is None
        assert set(pair.b.gate.keypairs) == indices
    assert pair.b.gate.drops == {"initiation: replayed": 3}


def test_an_older_initiation_that_comes_late_is_dropped() -> None:
    pair = Pair()
    pair.tap = []
    pair.a.initiate()
    pair.run(6 * SECOND_NS)
    (_, older), (_, newer) = pair.tap
    assert pair.b.gate.receive(newer, None, b"", pair.now) is pair.b.tunnel
    assert pair.b.gate.receive(older, None, b"", pair.now + SECOND_NS) is None
    assert pair.b.gate.drops == {"initiation: replayed": 1}


# A nonce that is used twice.


def test_nonces_are_not_given_back_when_sealing_or_sending_fails() -> None:
    pair = connected()
    keypair = pair.a.tunnel.keypair_for_sending(pair.now)
    assert keypair is not None
    taken = [keypair.take_counter() for _ in range(3)]
    with pytest.raises(TypeError):
        seal_packet(keypair, keypair.take_counter() or 0, None)  # type: ignore[arg-type]
    taken.append(keypair.take_counter())
    assert taken == [1, 2, 3, 5]


def test_keys_of_two_sessions_differ_even_with_the_same_random_bytes_of_one_side() -> None:
    pair = Pair()
    table = pair.a.gate.table
    tunnels = [
        Tunnel(pair.a.static, pair.b.static.public, table=table, random_bytes=bytes, preshared_key=bytes(range(32)))
        for _ in range(2)
    ]
    sealed = []
    for number, tunnel in enumerate(tunnels):
        now = pair.now + number * SECOND_NS
        tunnel.initiate(now, WALL_NS + now)
        (initiation,) = tunnel.datagrams_to_send()
        pair.b.gate.receive(initiation, None, b"", now)
        (response,) = pair.b.tunnel.datagrams_to_send()
        pair.a.gate.receive(response, None, b"", now)
        (keepalive,) = tunnel.datagrams_to_send()
        sealed.append(keepalive[16:])
    assert sealed[0] != sealed[1]


def test_a_message_is_opened_once() -> None:
    pair = connected()
    pair.tap = []
    pair.a.send(b"once")
    _, message = pair.tap.pop()
    pair.b.receive(message)
    pair.b.receive(message)
    assert pair.b.received == [b"once"]
    assert pair.b.unopened == 1


def test_a_bad_tag_leaves_the_counter_fresh() -> None:
    pair = connected()
    pair.tap = []
    pair.a.send(b"real")
    _, message = pair.tap.pop()
    _, index, counter = DATA_HEADER.unpack_from(message)
    keypair = pair.b.gate.keypairs[index]
    with pytest.raises(InvalidTag):
        open_packet(keypair, message[:-1] + bytes((message[-1] ^ 1,)))
    assert keypair.window.is_fresh(counter)
    pair.b.receive(message)
    assert pair.b.received == [b"real"]
