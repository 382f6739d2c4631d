"""One tunnel: handshakes, what the fast path calls, and each timer of the table."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.unit.noise.pair import START_NS, WALL_NS, Link, Pair, open_packet
from tests.unit.noise.test_primitives import SMALL_ORDER
from weft.burst.header import DATA_HEADER
from weft.errors import UsageError
from weft.noise.keypair import Keypair, KeypairTable
from weft.noise.primitives import StaticKey
from weft.noise.tai64n import encode_timestamp
from weft.noise.timers import (
    INITIATION_INTERVAL_NS,
    KEEPALIVE_TIMEOUT_NS,
    LAST_MINUTE_TIME_NS,
    NEW_HANDSHAKE_TIME_NS,
    REJECT_AFTER_TIME_NS,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME_NS,
    REKEY_TIMEOUT_JITTER_NS,
    REKEY_TIMEOUT_NS,
    SECOND_NS,
)
from weft.noise.tunnel import HandshakeFailed, KeypairReady, Tunnel, Unanswered


def connected(*, persistent_keepalive_ns: int = 0) -> Pair:
    pair = Pair(1, Link(delay_ns=(0, 0)), persistent_keepalive_ns=persistent_keepalive_ns)
    pair.connect()
    return pair


def current(pair: Pair, name: str = "a") -> Keypair:
    node = getattr(pair, name)
    keypair = node.tunnel.keypair_for_sending(node.tunnel.last_handshake_at)
    assert isinstance(keypair, Keypair)
    return keypair


def silent(pair: Pair) -> None:
    """Nothing arrives from now on."""
    pair.link.loss = 1.0


def restart_of_a(pair: Pair, *, keeps_floor: bool = True) -> Tunnel:
    """The tunnel of `a` after a restart of its program."""
    return Tunnel(
        pair.a.static,
        pair.b.static.public,
        table=pair.a.gate.table,
        random_bytes=pair.random.randbytes,
        preshared_key=bytes(range(32)),
        timestamp_floor=pair.a.tunnel.last_timestamp_sent if keeps_floor else bytes(12),
    )


# Handshakes.


def test_a_handshake_takes_two_messages_and_a_keepalive() -> None:
    pair = connected()
    assert pair.a.sent_types == {1: 1, 4: 1}
    assert pair.b.sent_types == {2: 1}
    assert pair.a.events == [KeypairReady(initiator=True)]
    assert pair.b.events == [KeypairReady(initiator=False)]
    assert pair.a.tunnel.last_handshake_at == START_NS
    assert not pair.a.gate.drops
    assert not pair.b.gate.drops


def test_keys_of_both_sides_fit() -> None:
    pair = connected()
    assert pair.a.send(b"to b")
    assert pair.b.send(b"to a")
    pair.run(SECOND_NS)
    assert (pair.a.received, pair.b.received) == ([b"to a"], [b"to b"])


def test_a_packet_without_a_keypair_brings_a_handshake() -> None:
    pair = Pair()
    assert not pair.a.send(b"first")
    assert pair.a.armed == START_NS
    pair.run(SECOND_NS)
    assert pair.b.received == [b"first"]


def test_a_second_handshake_does_not_begin_while_one_is_under_way() -> None:
    pair = Pair()
    silent(pair)
    assert pair.a.initiate()
    assert pair.a.tunnel.is_handshaking
    assert not pair.a.initiate()
    pair.run(SECOND_NS)
    assert pair.a.sent_types == {1: 1}


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_handshake_asked_for_too_soon_begins_after_the_rekey_timeout(name: str) -> None:
    pair = connected()
    node = getattr(pair, name)
    assert not node.initiate()
    assert node.armed == START_NS + REKEY_TIMEOUT_NS
    pair.run(6 * SECOND_NS)
    assert node.initiations_at[-1] == START_NS + REKEY_TIMEOUT_NS
    assert node.events[-1] == KeypairReady(initiator=True)


def test_when_both_begin_at_once_both_can_send_after_one_round_trip() -> None:
    pair = Pair(2)
    pair.a.initiate()
    pair.b.initiate()
    pair.run(SECOND_NS)
    assert pair.a.send(b"to b")
    assert pair.b.send(b"to a")
    pair.run(SECOND_NS)
    assert (pair.a.received, pair.b.received) == ([b"to a"], [b"to b"])


def test_other_preshared_keys_never_give_a_session() -> None:
    pair = Pair(3, preshared_keys=(bytes(32), b"\1" * 32))
    pair.a.initiate()
    pair.run(20 * SECOND_NS)
    assert not pair.a.tunnel.is_up(pair.now)
    assert not pair.b.tunnel.is_up(pair.now)
    assert pair.a.gate.drops["handshake: does not authenticate"] == 4


def test_a_preshared_key_that_was_set_counts_from_the_next_handshake() -> None:
    pair = Pair(3, preshared_keys=(bytes(32), b"\1" * 32))
    pair.a.tunnel.set_preshared_key(b"\1" * 32)
    pair.connect()
    assert pair.a.tunnel.is_up(pair.now)


def test_the_timestamp_follows_the_clock_and_can_be_stored() -> None:
    pair = connected()
    assert pair.a.tunnel.last_timestamp_sent == encode_timestamp(WALL_NS + START_NS)
    assert pair.b.tunnel.last_timestamp_sent == bytes(12)


@pytest.mark.parametrize("keeps_floor", [True, False])
def test_after_a_restart_with_the_clock_set_back_the_stored_timestamp_lets_us_in(*, keeps_floor: bool) -> None:
    pair = connected()
    pair.a.tunnel.close()
    pair.a.tunnel = restart_of_a(pair, keeps_floor=keeps_floor)
    pair.a.wall_offset_ns = -3600 * SECOND_NS
    pair.a.initiate()
    pair.run(SECOND_NS)
    assert pair.a.tunnel.is_up(pair.now) is keeps_floor
    assert pair.b.gate.drops["initiation: replayed"] == (0 if keeps_floor else 1)


def test_initiations_that_follow_within_20_ms_are_dropped() -> None:
    pair = Pair(4)
    pair.a.tunnel.initiate(pair.now, WALL_NS)
    (first,) = pair.a.tunnel.datagrams_to_send()
    later = restart_of_a(pair)
    later.initiate(pair.now, WALL_NS)
    (second,) = later.datagrams_to_send()
    receive = pair.b.gate.receive
    assert receive(first, None, b"", START_NS) is pair.b.tunnel
    assert receive(second, None, b"", START_NS + 19_999_999) is None
    assert pair.b.gate.drops == {"initiation: too soon": 1}
    assert receive(second, None, b"", START_NS + 20_000_000) is pair.b.tunnel


def test_handshake_begun_again_elsewhere_comes_late_enough_to_be_answered() -> None:
    pair = Pair(4, Link(delay_ns=(0, 0)))
    pair.a.initiate()
    assert not pair.a.initiate(elsewhere=True)
    assert pair.a.armed == START_NS + 2 * INITIATION_INTERVAL_NS
    pair.run(SECOND_NS)
    assert pair.a.initiations_at == [START_NS, START_NS + 2 * INITIATION_INTERVAL_NS]
    assert pair.a.tunnel.is_up(pair.now)
    assert not pair.b.gate.drops
    assert pair.a.initiate(elsewhere=True)
    assert pair.a.initiations_at[2:] == [pair.now]


# Timers.


def test_an_unanswered_initiation_is_repeated_after_5_s_and_up_to_333_ms_with_fresh_keys() -> None:
    pair = Pair(5)
    pair.tap = []
    pair.a.initiate()
    pair.run(60 * SECOND_NS)
    times = pair.a.initiations_at
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert len(steps) >= 10
    assert all(REKEY_TIMEOUT_NS <= step <= REKEY_TIMEOUT_NS + REKEY_TIMEOUT_JITTER_NS for step in steps)
    assert len(set(steps)) > 5
    datagrams = [datagram for _, datagram in pair.tap]
    assert (
        len({datagram[4:8] for datagram in datagrams}) == len({datagram[8:40] for datagram in datagrams}) == len(times)
    )
    assert len(pair.a.gate.table.handshakes) == 1


def test_a_handshake_is_given_up_after_90_s_and_begun_again_by_the_next_packet() -> None:
    pair = Pair(6)
    silent(pair)
    pair.a.send(b"lost")
    pair.run(600 * SECOND_NS)
    assert pair.a.events == [*[Unanswered()] * 17, HandshakeFailed()]
    assert 90 * SECOND_NS / (REKEY_TIMEOUT_NS + REKEY_TIMEOUT_JITTER_NS) <= len(pair.a.initiations_at) <= 19
    assert pair.a.armed is None
    assert not pair.a.gate.table.handshakes
    pair.link.loss = 0
    pair.a.send(b"again")
    pair.run(SECOND_NS)
    assert pair.b.received == [b"lost", b"again"]


def test_data_received_and_nothing_sent_brings_a_keepalive_after_10_s() -> None:
    pair = connected()
    pair.a.send(b"data")
    sent_at = pair.now
    pair.run_until(sent_at + KEEPALIVE_TIMEOUT_NS - 1)
    assert pair.b.sent_types == {2: 1}
    pair.run_until(sent_at + KEEPALIVE_TIMEOUT_NS)
    assert pair.b.sent_types == {2: 1, 4: 1}
    pair.run(100 * SECOND_NS)
    assert pair.b.sent_types == {2: 1, 4: 1}
    assert pair.a.received == []


def test_keepalive_that_is_asked_for_is_sent_at_once_or_asks_for_a_handshake() -> None:
    pair = connected()
    for _ in range(2):
        pair.a.tunnel.keep_alive(pair.now)
    assert [len(datagram) for datagram in pair.a.tunnel.datagrams_to_send()] == [32, 32]
    single = Pair(2)
    single.a.tunnel.keep_alive(single.now)
    assert single.a.tunnel.datagrams_to_send() == []
    assert single.a.tunnel.next_timer() == single.now


def test_data_sent_in_time_makes_the_keepalive_needless() -> None:
    pair = connected()
    pair.a.send(b"data")
    pair.run(9 * SECOND_NS)
    pair.b.send(b"answer")
    pair.run(2 * SECOND_NS)
    assert pair.b.sent_types == {2: 1, 4: 1}


def test_data_sent_and_nothing_received_brings_a_handshake_after_15_s() -> None:
    pair = connected()
    silent(pair)
    pair.run(5 * SECOND_NS)
    pair.b.send(b"data")
    sent_at = pair.now
    pair.run(3 * SECOND_NS)
    pair.b.send(b"more")
    pair.run_until(sent_at + NEW_HANDSHAKE_TIME_NS - 1)
    assert pair.b.initiations_at == []
    pair.run_until(sent_at + NEW_HANDSHAKE_TIME_NS)
    assert pair.b.initiations_at == [sent_at + NEW_HANDSHAKE_TIME_NS]


def test_a_keepalive_is_not_waited_for() -> None:
    pair = connected()
    silent(pair)
    pair.run(60 * SECOND_NS)
    assert pair.a.sent_types == {1: 1, 4: 1}


@pytest.mark.parametrize(("name", "rekeys"), [("a", True), ("b", False)])
def test_the_initiator_alone_rekeys_when_it_sends_after_120_s(name: str, *, rekeys: bool) -> None:
    pair = connected()
    node = getattr(pair, name)
    pair.run_until(START_NS + REKEY_AFTER_TIME_NS - 1)
    node.send(b"before")
    assert node.armed != pair.now
    pair.run(1)
    begun = len(node.initiations_at)
    assert node.send(b"after")
    pair.run(0)
    assert (len(node.initiations_at) > begun) is rekeys


def test_the_initiator_rekeys_when_it_receives_after_165_s() -> None:
    pair = connected()
    pair.run_until(START_NS + LAST_MINUTE_TIME_NS - 1)
    pair.b.send(b"before")
    pair.run(1)
    assert len(pair.a.initiations_at) == 1
    pair.b.send(b"after")
    pair.run(1)
    assert len(pair.a.initiations_at) == 2
    assert current(pair).created_at == START_NS + LAST_MINUTE_TIME_NS


def test_the_responder_does_not_rekey_when_it_receives_after_165_s() -> None:
    pair = connected()
    pair.run_until(START_NS + LAST_MINUTE_TIME_NS)
    keypair = current(pair, "b")
    assert pair.b.tunnel.handle_received(keypair, pair.now, data=False) is False
    assert pair.b.tunnel.next_timer() == START_NS + REJECT_AFTER_TIME_NS


def test_data_on_a_replaced_keypair_of_165_s_does_not_ask_for_a_handshake() -> None:
    pair = connected()
    old = current(pair)
    pair.run_until(START_NS + REKEY_AFTER_TIME_NS)
    pair.a.send(b"rekeys")
    pair.run_until(START_NS + LAST_MINUTE_TIME_NS)
    assert current(pair) is not old
    begun = len(pair.a.initiations_at)
    pair.a.tunnel.handle_received(old, pair.now, data=False)
    pair.a.drain()
    pair.run(0)
    assert len(pair.a.initiations_at) == begun


def test_a_response_is_an_answer() -> None:
    pair = connected()
    pair.run(10 * SECOND_NS)
    silent(pair)
    pair.a.send(b"lost")
    sent_at = pair.now
    pair.run(SECOND_NS)
    pair.link.loss = 0
    pair.a.initiate()
    pair.run(0)
    silent(pair)
    pair.run_until(sent_at + NEW_HANDSHAKE_TIME_NS + SECOND_NS)
    assert len(pair.a.initiations_at) == 2


def test_an_initiation_is_an_answer() -> None:
    pair = connected()
    pair.run(10 * SECOND_NS)
    silent(pair)
    pair.b.send(b"lost")
    sent_at = pair.now
    restarted = restart_of_a(pair)
    restarted.initiate(pair.now, WALL_NS)
    pair.b.receive(*restarted.datagrams_to_send())
    pair.run_until(sent_at + NEW_HANDSHAKE_TIME_NS + SECOND_NS)
    assert pair.b.initiations_at == []


def test_a_response_puts_a_wanted_handshake_off() -> None:
    pair = connected()
    pair.b.initiate()
    assert pair.b.armed == START_NS + REKEY_TIMEOUT_NS
    pair.run_until(START_NS + 4 * SECOND_NS)
    restarted = restart_of_a(pair)
    restarted.initiate(pair.now, WALL_NS)
    pair.b.receive(*restarted.datagrams_to_send())
    assert pair.b.armed == START_NS + 4 * SECOND_NS + REKEY_TIMEOUT_NS


@pytest.mark.parametrize("name", ["a", "b"])
def test_2_to_the_60_messages_bring_a_handshake(name: str) -> None:
    pair = connected()
    pair.run(10 * SECOND_NS)
    node = getattr(pair, name)
    current(pair, name).counter = REKEY_AFTER_MESSAGES - 1
    begun = len(node.initiations_at)
    node.send(b"last without")
    node.send(b"first with")
    pair.run(0)
    assert len(node.initiations_at) == begun + 1


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_session_ends_after_180_s(name: str) -> None:
    pair = connected()
    node = getattr(pair, name)
    pair.run_until(START_NS + REJECT_AFTER_TIME_NS - 1)
    assert node.tunnel.is_up(pair.now)
    pair.run(1)
    assert not node.tunnel.is_up(pair.now)
    assert node.gate.keypairs == {}
    assert node.events[1:] == []
    assert node.armed is None


def test_a_persistent_keepalive_begins_a_handshake_by_itself_and_goes_on() -> None:
    pair = Pair(7, persistent_keepalive_ns=10 * SECOND_NS)
    pair.a.drain()
    pair.run(35 * SECOND_NS)
    assert pair.a.sent_types == {1: 1, 4: 4}
    assert pair.b.sent_types == {2: 1}


def test_traffic_puts_the_persistent_keepalive_off() -> None:
    pair = connected(persistent_keepalive_ns=10 * SECOND_NS)
    for _ in range(10):
        pair.run(8 * SECOND_NS)
        pair.a.send(b"data")
    assert pair.a.sent_types[4] == 1 + 10


def test_traffic_of_the_peer_puts_the_persistent_keepalive_off_too() -> None:
    pair = connected(persistent_keepalive_ns=10 * SECOND_NS)
    for _ in range(10):
        pair.run(8 * SECOND_NS)
        pair.a.tunnel.handle_received(current(pair), pair.now, data=False)
        pair.a.drain()
    assert pair.a.sent_types[4] == 1


def test_a_persistent_keepalive_that_was_turned_off_stays_off() -> None:
    pair = connected(persistent_keepalive_ns=10 * SECOND_NS)
    pair.a.tunnel.set_persistent_keepalive(0)
    pair.a.drain()
    pair.run(60 * SECOND_NS)
    assert pair.a.sent_types == {1: 1, 4: 1}


def test_a_persistent_keepalive_waits_for_a_handshake_that_is_under_way() -> None:
    pair = Pair(8, persistent_keepalive_ns=SECOND_NS)
    silent(pair)
    pair.a.drain()
    pair.run(60 * SECOND_NS)
    assert 60 // 5.4 <= pair.a.sent_types[1] <= 60 // 5 + 1


def test_a_persistent_keepalive_waits_for_a_handshake_that_may_not_begin_yet() -> None:
    pair = Pair(8, persistent_keepalive_ns=SECOND_NS)
    pair.b.tunnel.initiate(pair.now, WALL_NS)
    (initiation,) = pair.b.tunnel.datagrams_to_send()
    silent(pair)
    pair.a.receive(initiation)
    pair.run(REKEY_TIMEOUT_NS - 1)
    assert pair.a.sent_types == {2: 1}
    pair.run(SECOND_NS)
    assert pair.a.sent_types == {2: 1, 1: 1}


def test_a_persistent_keepalive_tries_again_after_each_handshake_that_failed() -> None:
    pair = Pair(8, persistent_keepalive_ns=10 * SECOND_NS)
    silent(pair)
    pair.a.drain()
    pair.run(400 * SECOND_NS)
    assert pair.a.events.count(HandshakeFailed()) == 4
    pair.link.loss = 0
    pair.run(10 * SECOND_NS)
    assert pair.a.tunnel.is_up(pair.now)


# What the fast path calls.


def test_sending_in_a_fresh_session_asks_for_attention_only_when_the_timer_has_to_move() -> None:
    pair = connected()
    tunnel, now = pair.a.tunnel, pair.now
    assert tunnel.handle_sent(now, data=True) is True
    assert tunnel.next_timer() == now + NEW_HANDSHAKE_TIME_NS
    assert tunnel.handle_sent(now + 1, data=True) is False
    assert tunnel.handle_received(current(pair), now + 2, data=True) is True
    assert tunnel.next_timer() == now + 2 + KEEPALIVE_TIMEOUT_NS
    for step in range(3, 100):
        assert tunnel.handle_sent(now + step, data=True) is False
        assert tunnel.handle_received(current(pair), now + step, data=True) is False


def test_the_first_message_on_the_next_keypair_asks_for_attention_once() -> None:
    pair = Pair(9, Link(delay_ns=(0, 0)))
    tunnel = pair.b.tunnel
    pair.a.tunnel.initiate(pair.now, WALL_NS)
    (initiation,) = pair.a.tunnel.datagrams_to_send()
    assert pair.b.gate.receive(initiation, None, b"", pair.now) is tunnel
    (keypair,) = pair.b.gate.keypairs.values()
    assert tunnel.keypair_for_sending(pair.now) is None
    assert tunnel.handle_received(keypair, pair.now, data=False) is True
    assert tunnel.next_event() == KeypairReady(initiator=False)
    assert tunnel.keypair_for_sending(pair.now) is keypair
    tunnel.next_timer()
    assert tunnel.handle_received(keypair, pair.now, data=False) is False


def test_a_closed_tunnel_holds_nothing_and_does_nothing() -> None:
    pair = connected(persistent_keepalive_ns=10 * SECOND_NS)
    pair.run(10 * SECOND_NS)
    tunnel = pair.a.tunnel
    tunnel.initiate(pair.now, WALL_NS)
    assert pair.a.gate.table.handshakes
    tunnel.close()
    assert tunnel._preshared_key == bytes(32)
    assert pair.a.gate.table.handshakes == {}
    assert pair.a.gate.keypairs == {}
    assert tunnel.datagrams_to_send() == []
    assert tunnel.next_event() is None
    assert tunnel.next_timer() is None
    assert tunnel.keypair_for_sending(pair.now) is None
    assert not tunnel.initiate(pair.now, WALL_NS)
    tunnel.handle_timer(pair.now + 1000 * SECOND_NS, WALL_NS)
    assert tunnel.next_timer() is None
    assert tunnel.datagrams_to_send() == []


def test_an_initiation_for_a_closed_tunnel_is_refused() -> None:
    pair = connected()
    pair.b.tunnel.close()
    pair.run(10 * SECOND_NS)
    pair.a.initiate()
    pair.run(SECOND_NS)
    assert pair.b.gate.drops == {"initiation: tunnel is closed": 1}
    assert pair.b.gate.keypairs == {}


def test_outputs_that_nobody_takes_are_bounded_and_counted() -> None:
    pair = Pair(10, persistent_keepalive_ns=SECOND_NS)
    for second in range(2000):
        pair.a.tunnel.handle_timer(pair.now + second * SECOND_NS, WALL_NS)
    assert pair.a.tunnel.drops["tunnel: not drained"] > 100
    assert len(pair.a.tunnel.datagrams_to_send()) == 16
    assert pair.a.tunnel.drops["tunnel: event not taken"] > 0


# Wrong arguments.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peer_public": bytes(31)}, "public key has 32 bytes"),
        ({"peer_public": bytes.fromhex(SMALL_ORDER[3])}, "small order"),
        ({"preshared_key": bytes(33)}, "preshared key has 32 bytes"),
        ({"timestamp_floor": bytes(11)}, "timestamp has 12 bytes"),
        ({"persistent_keepalive_ns": SECOND_NS - 1}, "once a second"),
        ({"persistent_keepalive_ns": -1}, "once a second"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, bytes | int], said: str) -> None:
    arguments = {"peer_public": StaticKey(bytes(range(32))).public, **change}
    with pytest.raises(UsageError, match=said):
        Tunnel(StaticKey(bytes(32)), table=KeypairTable(bytes), random_bytes=bytes, **arguments)  # type: ignore[arg-type]


def test_a_keepalive_is_an_empty_message_that_authenticates() -> None:
    pair = Pair(11)
    pair.a.initiate()
    pair.run(11_000_000)
    pair.tap = []
    pair.run(SECOND_NS)
    ((_, keepalive),) = pair.tap
    assert len(keepalive) == 32
    _, index, counter = DATA_HEADER.unpack_from(keepalive)
    assert counter == 0
    assert open_packet(pair.b.gate.keypairs[index], keepalive) == b""


# Rest.


def test_tunnel_that_rests_begins_nothing_and_answers_the_peer() -> None:
    pair = connected(persistent_keepalive_ns=25 * SECOND_NS)
    before = pair.a.sent_types.copy()
    pair.a.tunnel.rest()
    pair.run(600 * SECOND_NS)
    assert not pair.a.tunnel.is_up(pair.now)
    assert not pair.a.send(b"nothing comes of it")
    assert pair.a.sent_types == before
    pair.b.send(b"are you there?")
    pair.run(60 * SECOND_NS)
    assert pair.a.sent_types[1] == before[1]
    assert pair.a.sent_types[2] == before[2] + 1
    assert pair.a.tunnel.is_up(pair.now)
    assert not pair.a.tunnel.is_resting


def test_tunnel_that_rests_is_woken_by_a_command_at_once() -> None:
    pair = connected()
    pair.a.tunnel.rest()
    assert pair.a.tunnel.next_timer() is None
    assert pair.a.tunnel.keypair_for_sending(pair.now) is None
    assert pair.a.tunnel.next_timer() is None
    assert pair.a.tunnel.initiate(pair.now, WALL_NS)
    assert not pair.a.tunnel.is_resting


def test_tunnel_that_is_closed_rests_for_good() -> None:
    pair = connected()
    pair.a.tunnel.close()
    assert not pair.a.tunnel.initiate(pair.now, WALL_NS)
    assert pair.a.tunnel.is_resting
