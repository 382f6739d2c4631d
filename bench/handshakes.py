"""Handshakes a second: weft's machines with all that WireGuard adds, and noiseprotocol's bare IKpsk2."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

from noise.connection import Keypair, NoiseConnection  # type: ignore[import-untyped]

from bench.namespaces import BenchError
from bench.plan import Plan
from bench.results import Name, Results
from bench.running import sample, say
from weft.noise.gate import Gate
from weft.noise.primitives import StaticKey
from weft.noise.timers import REKEY_TIMEOUT_NS
from weft.noise.tunnel import Tunnel

PROTOCOL = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
PRESHARED_KEY = bytes(32)
SOURCE = bytes(6)


class WeftPair:
    """Two weft nodes that only shake hands, again and again, in virtual time."""

    def __init__(self) -> None:
        static = StaticKey(os.urandom(32)), StaticKey(os.urandom(32))
        self.initiator_gate = Gate(static[0], tunnel_for=lambda _: None, random_bytes=os.urandom)
        self.initiator = Tunnel(static[0], static[1].public, table=self.initiator_gate.table, random_bytes=os.urandom)
        self.responder_gate = Gate(static[1], tunnel_for=lambda _: self.responder, random_bytes=os.urandom)
        self.responder = Tunnel(static[1], static[0].public, table=self.responder_gate.table, random_bytes=os.urandom)
        self.now = 0

    def shake_hands(self) -> None:
        """One handshake, with MACs, timestamp, indices and keypairs on both sides."""
        # So much later that neither side finds it too soon.
        self.now += 2 * REKEY_TIMEOUT_NS
        self.initiator.initiate(self.now, self.now)
        for message in self.initiator.datagrams_to_send():
            self.responder_gate.receive(message, None, SOURCE, self.now)
        for message in self.responder.datagrams_to_send():
            self.initiator_gate.receive(message, None, SOURCE, self.now)
        if self.initiator.last_handshake_at != self.now:
            raise BenchError(f"weft's handshake failed: {self.responder_gate.drops + self.initiator_gate.drops}")
        self.initiator.datagrams_to_send()
        self.initiator.next_event()


class NoisePair:
    """Two static keys of noiseprotocol; each handshake has connections of its own."""

    def __init__(self) -> None:
        self.initiator, self.responder = os.urandom(32), os.urandom(32)
        self.responder_public = StaticKey(self.responder).public

    def shake_hands(self) -> None:
        """One handshake of two messages."""
        initiator, responder = NoiseConnection.from_name(PROTOCOL), NoiseConnection.from_name(PROTOCOL)
        initiator.set_as_initiator()
        responder.set_as_responder()
        initiator.set_keypair_from_private_bytes(Keypair.STATIC, self.initiator)
        initiator.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, self.responder_public)
        responder.set_keypair_from_private_bytes(Keypair.STATIC, self.responder)
        for connection in (initiator, responder):
            connection.set_psks(PRESHARED_KEY)
            connection.start_handshake()
        responder.read_message(initiator.write_message())
        initiator.read_message(responder.write_message())
        if not (initiator.handshake_finished and responder.handshake_finished):
            raise BenchError("noiseprotocol's handshake failed")


def rate(shake_hands: Callable[[], None], seconds: int) -> dict[str, float]:
    """How often that goes in a second."""
    count, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        shake_hands()
        count += 1
    return {"handshakes": count / spent}


def measure_handshakes(plan: Plan, results: Results, _scratch: Path) -> None:
    """Both in turn, in this process."""
    if "handshakes" not in plan.sections:
        return
    say("-- handshakes")
    pairs = {"weft": WeftPair().shake_hands, "noiseprotocol": NoisePair().shake_hands}
    for _ in range(plan.runs):
        for name, shake_hands in pairs.items():
            sample(results, Name("handshakes", "process", name), functools.partial(rate, shake_hands, plan.seconds))
