"""Noise_IKpsk2 against cacophony's vector, and against noiseprotocol as the other side."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from noise.connection import Keypair as OracleKey
from noise.connection import NoiseConnection

from tests.unit.noise.test_primitives import SMALL_ORDER
from weft.noise.handshake import (
    CONSTRUCTION,
    IDENTIFIER,
    HandshakeRefusedError,
    InitiatorHandshake,
    ResponderHandshake,
    TransportKeys,
)
from weft.noise.primitives import StaticKey

VECTOR = Path(__file__).parents[2] / "vectors" / "noise_ikpsk2_25519_chachapoly_blake2s.json"
TIMESTAMP = bytes(range(12))
PRESHARED = bytes(range(100, 132))


def key_of(seed: int) -> StaticKey:
    return StaticKey(Random(seed).randbytes(32))


def oracle(*, initiator: bool, private: bytes, peer_public: bytes | None) -> Any:
    other = NoiseConnection.from_name(CONSTRUCTION)
    other.set_prologue(IDENTIFIER)
    other.set_psks(psk=PRESHARED)
    other.set_keypair_from_private_bytes(OracleKey.STATIC, private)
    if peer_public is not None:
        other.set_keypair_from_public_bytes(OracleKey.REMOTE_STATIC, peer_public)
    if initiator:
        other.set_as_initiator()
    else:
        other.set_as_responder()
    other.start_handshake()
    return other


def nonce_of(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


def test_the_vector_of_cacophony_is_reproduced() -> None:
    vector = json.loads(VECTOR.read_text())

    def value(name: str) -> bytes:
        return bytes.fromhex(vector[name])

    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    (preshared,) = (bytes.fromhex(psk) for psk in vector["init_psks"])
    initiator = InitiatorHandshake(
        StaticKey(value("init_static")),
        value("init_remote_static"),
        StaticKey(value("init_ephemeral")),
        prologue=value("init_prologue"),
    )
    payload, expected = messages[0]
    assert initiator.write_initiation(payload) == expected

    responder = ResponderHandshake.read_initiation(
        StaticKey(value("resp_static")), expected, prologue=value("resp_prologue")
    )
    assert responder.payload == payload
    assert responder.peer_public == StaticKey(value("init_static")).public
    payload, expected = messages[1]
    response, responder_keys = responder.write_response(StaticKey(value("resp_ephemeral")), preshared, payload)
    assert response == expected

    read, initiator_keys = initiator.read_response(response, preshared)
    assert read == payload
    assert initiator.handshake_hash == responder.handshake_hash == value("handshake_hash")
    for number, (payload, expected) in enumerate(messages[2:]):
        sender = (initiator_keys, responder_keys)[number % 2]
        assert ChaCha20Poly1305(sender.send).encrypt(nonce_of(number // 2), payload, b"") == expected


def assert_keys_agree(keys: TransportKeys, other: Any) -> None:
    for counter in range(3):
        ours = ChaCha20Poly1305(keys.send).encrypt(nonce_of(counter), b"to the oracle", b"")
        assert other.decrypt(ours) == b"to the oracle"
        theirs = bytes(other.encrypt(b"from the oracle"))
        assert ChaCha20Poly1305(keys.receive).decrypt(nonce_of(counter), theirs, b"") == b"from the oracle"


@pytest.mark.parametrize("seed", range(5))
def test_as_initiator_we_agree_with_noiseprotocol(seed: int) -> None:
    their_private = Random(seed + 50).randbytes(32)
    other = oracle(initiator=False, private=their_private, peer_public=None)
    ours = InitiatorHandshake(key_of(seed), StaticKey(their_private).public, key_of(seed + 100))
    assert other.read_message(ours.write_initiation(TIMESTAMP)) == TIMESTAMP
    payload, keys = ours.read_response(bytes(other.write_message(b"")), PRESHARED)
    assert payload == b""
    assert other.get_handshake_hash() == ours.handshake_hash
    assert_keys_agree(keys, other)


@pytest.mark.parametrize("seed", range(5))
def test_as_responder_we_agree_with_noiseprotocol(seed: int) -> None:
    their_private = Random(seed + 50).randbytes(32)
    other = oracle(initiator=True, private=their_private, peer_public=key_of(seed).public)
    ours = ResponderHandshake.read_initiation(key_of(seed), bytes(other.write_message(TIMESTAMP)))
    assert ours.payload == TIMESTAMP
    assert ours.peer_public == StaticKey(their_private).public
    response, keys = ours.write_response(key_of(seed + 100), PRESHARED)
    assert other.read_message(response) == b""
    assert other.get_handshake_hash() == ours.handshake_hash
    assert_keys_agree(keys, other)


def begun() -> tuple[InitiatorHandshake, bytes]:
    initiator = InitiatorHandshake(key_of(1), key_of(2).public, key_of(3))
    return initiator, initiator.write_initiation(TIMESTAMP)


def test_an_initiation_for_another_key_is_refused() -> None:
    _, message = begun()
    with pytest.raises(HandshakeRefusedError, match="authenticate"):
        ResponderHandshake.read_initiation(key_of(9), message)


@pytest.mark.parametrize("place", [0, 31, 32, 79, 80, 107])
def test_an_initiation_with_a_changed_bit_is_refused(place: int) -> None:
    _, message = begun()
    changed = bytearray(message)
    changed[place] ^= 1
    with pytest.raises(HandshakeRefusedError):
        ResponderHandshake.read_initiation(key_of(2), bytes(changed))


@pytest.mark.parametrize("place", [0, 31, 32, 47])
def test_a_response_with_a_changed_bit_is_refused_and_the_real_one_accepted(place: int) -> None:
    initiator, message = begun()
    response, keys = ResponderHandshake.read_initiation(key_of(2), message).write_response(key_of(4), PRESHARED)
    changed = bytearray(response)
    changed[place] ^= 1
    said = initiator.handshake_hash
    with pytest.raises(HandshakeRefusedError):
        initiator.read_response(bytes(changed), PRESHARED)
    assert initiator.handshake_hash == said
    assert initiator.read_response(response, PRESHARED)[1] == (keys.receive, keys.send)


def test_another_preshared_key_is_refused() -> None:
    initiator, message = begun()
    response, _ = ResponderHandshake.read_initiation(key_of(2), message).write_response(key_of(4), PRESHARED)
    with pytest.raises(HandshakeRefusedError, match="authenticate"):
        initiator.read_response(response, bytes(32))


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_an_ephemeral_key_of_small_order_is_refused_on_both_sides(point: str) -> None:
    initiator, message = begun()
    small = bytes.fromhex(point)
    with pytest.raises(HandshakeRefusedError, match="zero"):
        ResponderHandshake.read_initiation(key_of(2), small + message[32:])
    with pytest.raises(HandshakeRefusedError, match="zero"):
        initiator.read_response(small + bytes(16), PRESHARED)
