"""Keypairs: counters, lifetimes, indices, and the rotation against its table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.noise.pair import Pair
from weft.burst.header import NONCE
from weft.noise.handshake import TransportKeys
from weft.noise.keypair import PREVIOUS_KEPT, Keypair, KeypairTable, Rotation
from weft.noise.timers import NEVER, REJECT_AFTER_MESSAGES, SECOND_NS

NOW = 7 * SECOND_NS
KEYS = TransportKeys(bytes(32), bytes(range(32)))
TUNNEL = Pair().a.tunnel


class Held:
    """A rotation whose keypairs have names."""

    def __init__(self) -> None:
        self.indices = iter(range(1, 1000))
        self.table = KeypairTable(lambda count: next(self.indices).to_bytes(count, "little"))
        self.rotation = Rotation(self.table)

    def make(self, *, initiator: bool = True, now: int = NOW) -> Keypair:
        return Keypair(TUNNEL, self.table.free_index(), 0, KEYS, now, initiator=initiator)

    def shape(self) -> tuple[int | None, int | None, tuple[int, ...]]:
        following, current = self.rotation.next, self.rotation.current
        return (
            None if following is None else following.local_index,
            None if current is None else current.local_index,
            tuple(keypair.local_index for keypair in self.rotation.previous),
        )

    def as_initiator(self) -> None:
        self.rotation.begin_as_initiator(self.make())

    def as_responder(self) -> None:
        self.rotation.begin_as_responder(self.make(initiator=False))

    def confirm(self) -> None:
        if self.rotation.next is not None:
            self.rotation.confirm()


INIT, RESP, CONF = Held.as_initiator, Held.as_responder, Held.confirm


@pytest.mark.parametrize(
    ("events", "shape"),
    [
        ([INIT], (None, 1, ())),
        ([INIT, INIT], (None, 2, (1,))),
        ([RESP], (1, None, ())),
        ([RESP, CONF], (None, 1, ())),
        ([INIT, RESP], (2, 1, ())),
        ([INIT, RESP, CONF], (None, 2, (1,))),
        ([INIT, RESP, RESP], (3, 1, ())),
        ([INIT, RESP, RESP, CONF], (None, 3, (1,))),
        ([INIT, RESP, INIT], (None, 3, (2, 1))),
        ([INIT, RESP, INIT, RESP, INIT], (None, 5, (4, 3, 2))),
    ],
)
def test_the_rotation_follows_its_table(
    events: list[Callable[[Held], None]], shape: tuple[int | None, int | None, tuple[int, ...]]
) -> None:
    held = Held()
    for event in events:
        event(held)
    assert held.shape() == shape


@given(st.lists(st.sampled_from([INIT, RESP, CONF]), max_size=30))
def test_the_table_of_the_node_holds_just_what_the_rotation_holds(events: list[Callable[[Held], None]]) -> None:
    held = Held()
    for event in events:
        event(held)
        assert held.table.keypairs == {keypair.local_index: keypair for keypair in held.rotation}
        assert len(held.table.keypairs) <= 2 + PREVIOUS_KEPT
    held.rotation.clear()
    assert held.table.keypairs == {}
    assert held.shape() == (None, None, ())


def test_each_keypair_is_forgotten_at_its_own_end() -> None:
    held = Held()
    for number in range(3):
        held.rotation.begin_as_initiator(held.make(now=NOW + number * SECOND_NS))
    held.rotation.begin_as_responder(held.make(initiator=False, now=NOW + 3 * SECOND_NS))
    for number in range(4):
        end = held.rotation.next_expiry()
        assert end == NOW + (180 + number) * SECOND_NS
        held.rotation.expire(end - 1)
        assert len(held.table.keypairs) == 4 - number
        held.rotation.expire(end)
        assert len(held.table.keypairs) == 3 - number
    assert held.rotation.next_expiry() == NEVER
    assert held.shape() == (None, None, ())


def test_counters_are_taken_in_order_and_end_at_reject_after_messages() -> None:
    keypair = Held().make()
    assert [keypair.take_counter() for _ in range(3)] == [0, 1, 2]
    keypair.counter = REJECT_AFTER_MESSAGES - 1
    assert keypair.take_counter() == REJECT_AFTER_MESSAGES - 1
    assert keypair.take_counter() is None
    assert keypair.take_counter() is None


def test_an_index_that_is_in_use_is_not_given_again() -> None:
    table = KeypairTable(lambda count: b"\xff" * count)
    first = table.free_index()
    assert first == 0xFFFFFFFF
    table.handshakes[first] = TUNNEL
    second = table.free_index()
    assert second == 0
    table.keypairs[second] = Keypair(TUNNEL, second, 0, KEYS, NOW, initiator=True)
    assert table.free_index() == 1
    assert table.tunnel_at(first) is TUNNEL
    assert table.tunnel_at(second) is TUNNEL
    assert table.tunnel_at(1) is None


def test_ciphers_are_those_of_rfc_8439_section_a_5() -> None:
    key = bytes.fromhex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0")
    keypair = Keypair(TUNNEL, 1, 2, TransportKeys(key, key), NOW, initiator=True)
    # Its nonce is four zeros and eight bytes, as ours are.
    nonce = NONCE.pack(int.from_bytes(bytes(range(1, 9)), "little"))
    plain = (
        "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or "
        "obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference material "
        "or to cite them other than as /“work in progress./”"
    ).encode()
    sealed = bytes.fromhex(
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0"
        "bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855"
        "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9"
        "9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a"
        "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130"
        "305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38"
    )
    associated = bytes.fromhex("f33388860000000000004e91")
    assert keypair.opener.decrypt(nonce, sealed, associated) == plain
    assert keypair.sealer.encrypt(nonce, plain, associated) == sealed
