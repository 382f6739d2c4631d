"""Handshake initiations of somebody whom nobody knows."""

from __future__ import annotations

import base64
import random
import time

from weft.noise.cookie import CookieGenerator
from weft.noise.handshake import InitiatorHandshake
from weft.noise.messages import Initiation, encode_initiation
from weft.noise.primitives import KEY_BYTES, StaticKey
from weft.noise.tai64n import encode_timestamp


def initiations(responder: str, count: int) -> list[bytes]:
    """Initiations that authenticate, each of a stranger of its own.

    Args:
        responder: public key of the node that they are for, base64.
        count: how many.
    """
    public, source = base64.b64decode(responder), random.Random(count)
    macs = CookieGenerator(public)
    made = []
    for _ in range(count):
        static, ephemeral = (StaticKey(source.randbytes(KEY_BYTES)) for _ in range(2))
        noise = InitiatorHandshake(static, public, ephemeral).write_initiation(encode_timestamp(time.time_ns()))
        made.append(macs.add_macs(encode_initiation(Initiation(source.getrandbits(32), noise)), 0))
    return made
