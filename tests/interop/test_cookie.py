"""Under load each side answers with cookies, and the other gets in with one.

The load: initiations that authenticate, of strangers on a third host, hundreds at once, again and again.
"""

import pytest

from tests.interop.initiations import initiations
from tests.interop.meeting import Meeting, prepare
from tests.interop.sender import flood
from tests.interop.tap import tapped
from tests.system.lab import Lab
from tests.system.node import PORT
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

AT_ONCE = 500
"""wireguard-go is under load while 128 handshakes wait in its queue, and a second longer."""
INITIATION, COOKIE_REPLY = b"\x01\0\0\0", b"\x03\0\0\0"
NO_MAC = bytes(16)


def test_stock_device_gets_through_weft_under_load_with_its_cookie(lab: Lab) -> None:
    meeting = prepare(lab)
    mallory = lab.host("mallory")
    target = lab.veth(meeting.weft_host, mallory).left
    load = initiations(meeting.node.info.wireguard_public_key, AT_ONCE)
    with flood(mallory, target.ip4, PORT, load), tapped(meeting.cable.right) as tap:
        assert is_under_load(meeting)
        meeting.introduce("stock")
        meeting.wait_until_up(15)
        assert is_under_load(meeting)
        first, *_, last = (datagram for datagram in tap.sent() if datagram[:4] == INITIATION)
    meeting.stock.process.wait_for(f"Receiving cookie response from {meeting.weft_endpoint()}")
    assert first[-16:] == NO_MAC
    assert last[-16:] != NO_MAC


def test_weft_gets_through_a_stock_device_under_load_with_its_cookie(lab: Lab) -> None:
    meeting = prepare(lab, "IPv6")
    mallory = lab.host("mallory")
    target = lab.veth(meeting.stock_host, mallory).left
    stock = meeting.stock
    load = initiations(stock.public_key, AT_ONCE)
    meeting.add_weft(calls=False)
    with flood(mallory, target.ip6, stock.port, load), tapped(meeting.cable.right) as tap:
        stock.process.wait_for("Sending cookie response")
        meeting.add_stock(calls=True)
        meeting.wait_until_up(15)
        first, *_, last = (datagram for datagram in tap.received() if datagram[:4] == INITIATION)
        assert COOKIE_REPLY in [datagram[:4] for datagram in tap.sent()]
    stock.process.wait_for(f"Sending cookie response for denied handshake message for {meeting.weft_endpoint()}")
    assert first[-16:] == NO_MAC
    assert last[-16:] != NO_MAC


def is_under_load(meeting: Meeting) -> bool:
    """Whether the node refuses what has no cookie."""
    before = meeting.dropped("initiation: MAC2")
    return until(lambda: meeting.dropped("initiation: MAC2") > before, "the node is under load", 2)
