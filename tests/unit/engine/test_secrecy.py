"""No secret of a node is in the `repr` of anything that a running one holds."""

from __future__ import annotations

import asyncio
import base64
import gc
import types
from collections.abc import Iterator
from pathlib import Path

from weft.cli.init import join_network
from weft.engine.config import FILE_NAME, load_config, network_psk
from weft.engine.engine import Engine
from weft.engine.initial import ensure_initialised
from weft.identity import encode_wireguard_key
from weft.io.store import Store

SECRET = b"a secret that many share"
PSK, DEVICE = bytes(range(100, 132)), bytes(range(32))
SKIPPED = (types.ModuleType, type, types.FunctionType, types.CodeType, types.FrameType, types.TracebackType)


def spellings(secret: bytes) -> set[str]:
    """How a secret could be written."""
    encoded = base64.b64encode(secret).decode()
    return {secret.hex(), encoded, encoded.rstrip("="), repr(secret)[2:-1], repr(list(secret))[1:-1], secret.hex(" ")}


def held_by(root: object) -> Iterator[object]:
    """All objects that can be reached from one, but for code."""
    seen, waiting = {id(root)}, [root]
    while waiting:
        held = waiting.pop()
        yield held
        for each in gc.get_referents(held):
            if id(each) not in seen and not isinstance(each, SKIPPED):
                seen.add(id(each))
                waiting.append(each)


async def test_nothing_that_a_running_node_holds_shows_a_secret(tmp_path: Path) -> None:
    join_network(tmp_path, SECRET)
    ensure_initialised(tmp_path)
    text = (tmp_path / FILE_NAME).read_text()
    (tmp_path / FILE_NAME).write_text(
        text.replace('"/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312"', '"/ip4/127.0.0.1/udp/0"')
    )
    identity = Store(tmp_path).load_key()
    engine = Engine(tmp_path, load_config(tmp_path / FILE_NAME))
    await engine.start()
    try:
        await engine.peers.add_wireguard(
            encode_wireguard_key(DEVICE),
            name="hub",
            allowed_ips=["10.9.0.0/24"],
            endpoint="127.0.0.1:9",
            preshared_key=encode_wireguard_key(PSK),
        )
        # A handshake begins, and with it a private key of the moment.
        await asyncio.sleep(0.05)
        secrets = {
            "seed": identity.seed,
            "Noise key": identity.noise_private,
            "preshared key": PSK,
            "network secret": SECRET,
            "preshared key of the network": network_psk(SECRET),
        }
        forms = {form: name for name, secret in secrets.items() for form in spellings(secret)} | {SECRET.decode(): "it"}
        objects = [each for each in held_by(engine) if type(each).__module__.startswith("weft.")]
        kinds = {type(each).__name__ for each in objects}
        assert {"Identity", "Terms", "StaticKey", "Session", "Peer", "Tunnel", "StoredPeer", "State", "Config"} <= kinds
        found = {(type(each).__qualname__, forms[form]) for each in objects for form in forms if form in repr(each)}
        assert not found
    finally:
        await engine.stop()
