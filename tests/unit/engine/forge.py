"""Datagrams that no honest node sends, sealed with an honest node's keys: what a malicious peer can do."""

from __future__ import annotations

import struct

from tests.unit.engine.pair import Datagram, Net, Node
from weft.noise.keypair import Keypair

PIECE = 1400


def keypair_of(speaker: Node, listener: Node) -> Keypair:
    """What the speaker seals with."""
    keypair = speaker.peer(listener).tunnel.keypair_for_sending(speaker.net.now)
    assert keypair is not None
    return keypair


def burst(speaker: Node, listener: Node, plain: bytes, *, ecn: int = 0, piece: int = PIECE) -> list[Datagram]:
    """A burst with any plain text."""
    keypair = keypair_of(speaker, listener)
    counter = keypair.take_counter()
    assert counter is not None
    prefix = struct.pack("<IIQH", 5, keypair.remote_index, counter, len(plain) + 16)
    sealed = bytearray(len(plain) + 16)
    keypair.sealer.encrypt_into(struct.pack("<4xQ", counter), plain, prefix, sealed)
    pieces = [bytes(sealed[start : start + piece]) for start in range(0, len(sealed), piece)]
    return [
        Datagram(prefix + bytes((number, len(pieces))) + each, speaker.socket.source, listener.socket.source, ecn)
        for number, each in enumerate(pieces)
    ]


def record(packet: bytes, kind: int = 0, flags: int = 0, segment: int = 0) -> bytes:
    """One record of a burst."""
    return struct.pack("<IBBH", len(packet), kind, flags, segment) + packet


def padded(plain: bytes) -> bytes:
    return plain + bytes(-len(plain) % 16)


def records(speaker: Node, listener: Node, *each: bytes, ecn: int = 0) -> list[Datagram]:
    """A burst with these records."""
    return burst(speaker, listener, padded(b"".join(each)), ecn=ecn)


def data(speaker: Node, listener: Node, plain: bytes, *, ecn: int = 0) -> Datagram:
    """A type 4 message with any plain text."""
    keypair = keypair_of(speaker, listener)
    counter = keypair.take_counter()
    assert counter is not None
    sealed = bytearray(len(plain) + 16)
    keypair.sealer.encrypt_into(struct.pack("<4xQ", counter), plain, None, sealed)
    header = struct.pack("<IIQ", 4, keypair.remote_index, counter)
    return Datagram(header + bytes(sealed), speaker.socket.source, listener.socket.source, ecn)


def deliver(net: Net, *datagrams: Datagram) -> None:
    """Let datagrams arrive and everything settle."""
    net.deliver(*datagrams)
    net.run(0.001)
