"""`kill -9` of either end, and how soon packets cross again."""

import time

import pytest

from tests.interop.meeting import Meeting, Role, meet
from tests.system.lab import Lab
from tests.system.node import Node
from tests.system.waiting import until
from weft.io.store import Store

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

WEFT_BACK_S = 5
STOCK_BACK_S = 20


@pytest.mark.parametrize("caller", ["weft", "stock"])
def test_weft_that_was_killed_is_back_within_5_s(lab: Lab, caller: Role) -> None:
    meeting = meet(lab, caller=caller)
    wait_until_stored(meeting)
    meeting.node.kill()
    started = time.monotonic()
    meeting.node.up()
    meeting.give_ip4()
    until(lambda: meeting.crosses(from_stock=True), "packets cross again", WEFT_BACK_S)
    assert time.monotonic() - started < WEFT_BACK_S
    assert meeting.loses_nothing(from_stock=False, ip4=True)
    assert meeting.loses_nothing(from_stock=True, ip4=True)


def test_weft_that_was_killed_after_the_device_had_moved_is_back_within_5_s(lab: Lab) -> None:
    meeting = meet(lab)
    meeting.stock.move_port(51999)
    assert meeting.crosses(from_stock=True)
    wait_until_stored(meeting)
    meeting.node.kill()
    started = time.monotonic()
    meeting.node.up()
    until(lambda: meeting.crosses(from_stock=True), "packets cross again", WEFT_BACK_S)
    assert time.monotonic() - started < WEFT_BACK_S


def test_stock_device_that_was_killed_is_back_within_20_s_though_only_weft_sends(lab: Lab) -> None:
    meeting = meet(lab)
    meeting.stock.kill()
    meeting.stock.start()
    started = time.monotonic()
    until(lambda: meeting.crosses(from_stock=False), "packets cross again", STOCK_BACK_S)
    assert time.monotonic() - started < STOCK_BACK_S
    assert "Sending handshake initiation" not in meeting.stock.process.output()


def test_stock_device_that_was_killed_is_back_at_once_when_it_sends(lab: Lab) -> None:
    meeting = meet(lab, caller="stock")
    meeting.stock.kill()
    meeting.stock.start()
    assert meeting.crosses(from_stock=True)
    assert meeting.crosses(from_stock=False)


def wait_until_stored(meeting: Meeting) -> None:
    """Return when the node would call the device where it is, after a new start."""
    multiaddr = f"/ip4/{meeting.cable.right.ip4}/udp/{meeting.stock.port}"
    until(lambda: stored_endpoints(meeting.node)[:1] == [multiaddr], "the endpoint is stored as the newest")


def stored_endpoints(node: Node) -> list[str]:
    """Of its only peer."""
    (peer,) = Store(node.directory).load_state().peers
    return peer.endpoints
