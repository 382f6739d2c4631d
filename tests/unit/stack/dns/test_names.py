"""Names that no server is asked for."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.identity import generate
from weft.stack.dns.names import LOCALHOST, Names

PEER = generate(Random(7).randbytes).peer_id
BOB = b"\xfc" + bytes(range(15))
HOST = bytes([192, 0, 2, 9])
NAMES = Names(lambda name: (BOB,) if name == "bob" else (), {"Printer.lan.": [HOST, BOB]})


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("192.0.2.1", (bytes([192, 0, 2, 1]),)),
        ("fc00::1", (b"\xfc" + bytes(14) + b"\x01",)),
        (str(PEER), (PEER.address,)),
        (PEER.to_dns_label(), (PEER.address,)),
        (f"{PEER.to_dns_label()}.weft", (PEER.address,)),
        (f"{PEER.to_dns_label().upper()}.WEFT.", (PEER.address,)),
        (f"{PEER}.weft", ()),
        (f"k{'0' * 61}.weft", ()),
        ("bob.weft", (BOB,)),
        ("BOB.Weft.", (BOB,)),
        ("bob", (BOB,)),
        ("BOB.", (BOB,)),
        ("alice", None),
        ("www.bob", None),
        ("alice.weft", ()),
        ("www.bob.weft", ()),
        ("weft", ()),
        (".weft", ()),
        ("localhost", LOCALHOST),
        ("a.b.LOCALHOST.", LOCALHOST),
        ("db.localhost", LOCALHOST),
        ("printer.lan", (HOST, BOB)),
        ("PRINTER.LAN.", (HOST, BOB)),
        ("example.com", None),
        ("notweft", None),
        ("weft.example.com", None),
        ("localhost.example.com", None),
        ("12D3KooW", None),
        ("192.0.2.256", None),
        ("", None),
        (".", None),
    ],
)
def test_host_has_these_addresses(host: str, addresses: tuple[bytes, ...] | None) -> None:
    assert NAMES.look_up(host) == addresses


def test_without_peers_and_hosts_keys_are_names_still() -> None:
    assert Names().look_up("bob.weft") == ()
    assert Names().look_up("bob") is None
    assert Names().look_up(f"{PEER.to_dns_label()}.weft") == (PEER.address,)


@given(st.text(max_size=70))
def test_any_text_is_looked_up(host: str) -> None:
    NAMES.look_up(host)
    assert NAMES.look_up(f"{host}.weft") is not None
