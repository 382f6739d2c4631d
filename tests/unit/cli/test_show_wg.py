"""`weft show`: the look of `wg show`."""

from __future__ import annotations

import pytest

from tests.unit.api.fake_engine import ID, KEY, FakeEngine, a_peer
from tests.unit.cli.terminal import Terminal
from weft.cli.show_wg import ago, amount
from weft.engine.status import Interface

OTHER = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="


def test_show_is_what_wg_shows_and_a_little_more(weft: Terminal, node: FakeEngine) -> None:
    node.fc00.interface = Interface(up=True, ifname="weft0", address="fc22::1", mtu=1352)
    node.peer_list = [
        a_peer(
            "phone",
            id=None,
            kind="wireguard",
            wireguard_public_key=OTHER,
            addresses=["10.7.0.2", "10.9.0.0/24"],
            mode="packet",
            handshake_age_s=None,
            has_preshared_key=True,
            keepalive_s=25,
            rtt_ms=None,
            rx_bytes=0,
            tx_bytes=0,
            endpoint=None,
        ),
        a_peer(handshake_age_s=62.9, loss=0.0125),
        a_peer("gone", wireguard_public_key="x", state="blocked"),
    ]
    assert weft("show").out == (
        "interface: weft0\n"
        f"  public key: {KEY}\n"
        "  private key: (hidden)\n"
        "  listening port: 1312\n"
        "  address: fc22::1\n"
        "\n"
        f"peer: {KEY}\n"
        "  name: loom\n"
        "  kind: weft\n"
        "  endpoint: 192.0.2.1:1312\n"
        "  allowed ips: fc11::1/128\n"
        "  latest handshake: 1 minute, 2 seconds ago\n"
        "  transfer: 5.34 MiB received, 1.21 KiB sent\n"
        "  bursts: of up to 44 datagrams\n"
        "  loss: 1.25%\n"
        "  round trip: 1.25 ms\n"
        "\n"
        f"peer: {OTHER}\n"
        "  name: phone\n"
        "  kind: wireguard\n"
        "  preshared key: (hidden)\n"
        "  allowed ips: 10.7.0.2/32, 10.9.0.0/24\n"
        "  persistent keepalive: every 25 seconds\n"
    )
    assert ID not in weft("show").out


def test_show_without_an_interface_says_so(weft: Terminal, node: FakeEngine) -> None:
    node.peer_list = [a_peer(addresses=[], handshake_age_s=0.5)]
    out = weft("show").out
    assert out.startswith("interface: (none)\n")
    assert "  allowed ips: (none)\n  latest handshake: Now\n" in out


@pytest.mark.parametrize(
    ("age_s", "words"),
    [
        (0, ""),
        (1, "1 second"),
        (3_600, "1 hour"),
        (86_400 + 7_200 + 61, "1 day, 2 hours, 1 minute, 1 second"),
        (2 * 31_536_000, "2 years"),
    ],
)
def test_times_are_told_as_wg_tells_them(age_s: float, words: str) -> None:
    assert ago(age_s) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (5 << 20, "5.00 MiB"),
        (3 << 30, "3.00 GiB"),
        (2 << 40, "2.00 TiB"),
    ],
)
def test_amounts_are_told_as_wg_tells_them(count: int, words: str) -> None:
    assert amount(count) == words
