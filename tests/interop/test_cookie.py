"""Under load each side answers with cookies, and the other gets in with one.

The load: initiations that authenticate, of strangers on a third host, hundreds at once, again and again.
"""

import pytest

from tests.interop.initiations import initiations
from tests.interop.meeting import prepare
from tests.interop.node import PORT
from tests.interop.sender import flood
from tests.interop.tap import Tap
from tests.interop.waiting import until
from tests.system.lab import Lab

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

AT_ONCE = 500
"""wireguard-go is under load while 128 handshakes wait in its queue, and a second longer."""
INITIATION, COOKIE_REPLY = b"\x01\0\0\0", b"\x03\0\0\0"
NO_MAC = bytes(16)


def test_stock_device_gets_through_weft_under_load_with_its_cookie(lab: Lab) -> None:
    meeting = prepare(lab)
    mallory = lab.host("mallory")
    target = lab.veth(meeting.weft_host, mallory).left
    node = meeting.node
    with flood(mallory, target.ip4, PORT, initiations(node.public_key, AT_ONCE)):
        until(lambda: node.dropped("initiation: MAC2") > AT_ONCE, "the node is under load")
        tap = Tap(lab, meeting.cable.right)
        meeting.add_stock(calls=False)
        meeting.add_weft(calls=True)
        meeting.wait_until_up(15)
        before = node.dropped("initiation: MAC2")
        until(lambda: node.dropped("initiation: MAC2") > before + AT_ONCE, "the node is under load still")
    meeting.stock.process.wait_for(f"Receiving cookie response from {meeting.weft_endpoint()}")
    first, second = (each.payload for each in tap.datagrams() if each.is_outgoing and each.payload[:4] == INITIATION)
    assert first[-16:] == NO_MAC
    assert second[-16:] != NO_MAC


def test_weft_gets_through_a_stock_device_under_load_with_its_cookie(lab: Lab) -> None:
    meeting = prepare(lab, "IPv6")
    mallory = lab.host("mallory")
    target = lab.veth(meeting.stock_host, mallory).left
    stock = meeting.stock
    meeting.add_weft(calls=False)
    tap = Tap(lab, meeting.cable.right)
    with flood(mallory, target.ip6, stock.port, initiations(stock.public_key, AT_ONCE)):
        stock.process.wait_for("Sending cookie response for denied handshake message for")
        meeting.add_stock(calls=True)
        meeting.wait_until_up(15)
    assert (
        f"Sending cookie response for denied handshake message for {meeting.weft_endpoint()}" in stock.process.output()
    )
    seen = [(each.is_outgoing, each.payload) for each in tap.datagrams()]
    assert sum(payload[:4] == COOKIE_REPLY for is_outgoing, payload in seen if is_outgoing) == 1
    first, second = (payload for is_outgoing, payload in seen if not is_outgoing and payload[:4] == INITIATION)
    assert first[-16:] == NO_MAC
    assert second[-16:] != NO_MAC
