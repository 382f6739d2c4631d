"""Endpoints follow who moves, during a ping and without a new handshake."""

from dataclasses import replace

import pytest

from tests.interop.meeting import Meeting, Role, endpoint, meet
from tests.system.lab import Lab
from tests.system.node import PORT
from tests.system.traffic import flowing
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

QUICK_S = 2


@pytest.mark.parametrize("caller", ["weft", "stock"])
def test_stock_device_changes_its_port_and_weft_follows(lab: Lab, caller: Role) -> None:
    meeting = meet(lab, caller=caller)
    meeting.stock.move_port(51999)
    assert meeting.crosses(from_stock=True)
    assert meeting.node.peer().endpoint == meeting.stock_endpoint()
    assert begun(meeting) == 1


def test_stock_device_changes_its_address_and_weft_follows(lab: Lab) -> None:
    meeting = meet(lab)
    move_stock(meeting, 20)
    assert meeting.crosses(from_stock=True)
    assert meeting.node.peer().endpoint == meeting.stock_endpoint()
    assert meeting.crosses(from_stock=False)
    assert begun(meeting) == 1


def test_stock_device_changes_the_ip_version_and_weft_follows(lab: Lab) -> None:
    meeting = meet(lab, "IPv4", "stock")
    meeting.stop_keepalives()
    meeting.stock.wg_set(
        "peer", meeting.node.info.wireguard_public_key, "endpoint", endpoint(meeting.cable.left, PORT, "IPv6")
    )
    assert meeting.crosses(from_stock=True)
    assert meeting.node.peer().endpoint == endpoint(meeting.cable.right, meeting.stock.port, "IPv6")
    assert meeting.crosses(from_stock=False)


def test_weft_changes_its_address_and_the_stock_device_follows(lab: Lab) -> None:
    meeting = meet(lab)
    move_weft(meeting, 10)
    assert meeting.crosses(from_stock=False)
    assert meeting.stock.shown().endpoint == meeting.weft_endpoint()
    assert meeting.crosses(from_stock=True)
    assert begun(meeting) == 1


def test_transfer_ends_byte_exact_while_both_move_one_after_the_other(lab: Lab) -> None:
    meeting = meet(lab)
    with flowing(meeting.weft_host, meeting.stock_host, meeting.stock_addresses[0]):
        for number in range(20, 23):
            for move in (move_stock, move_weft):
                wait_for_megabyte(meeting)
                move(meeting, number)
                # A device that only receives is heard of when it sends something, such as its persistent keepalive.
                # A ping may be lost: the transfer fills the device's small buffer.
                until(lambda move=move: meeting.crosses(from_stock=move is move_stock), "the way is there again", 4)  # type: ignore[misc]
        wait_for_megabyte(meeting)
    assert begun(meeting) == 1


def begun(meeting: Meeting) -> int:
    """How many handshakes were begun, by whomever."""
    return meeting.handshakes("weft") + meeting.handshakes("stock")


def wait_for_megabyte(meeting: Meeting) -> None:
    """Return when another megabyte went to the stock device."""
    goal = meeting.stock.shown().rx_bytes + 1_000_000
    until(lambda: meeting.stock.shown().rx_bytes >= goal, "the transfer goes on", QUICK_S)


def move_weft(meeting: Meeting, number: int) -> None:
    """Give the node's host another address."""
    meeting.cable = replace(meeting.cable, left=meeting.cable.left.moved(number))


def move_stock(meeting: Meeting, number: int) -> None:
    """Give the device's host another address, and the device its peer's endpoint anew.

    This wireguard-go keeps the address that it last sent from; when that is gone, it fails until it is told.
    """
    meeting.cable = replace(meeting.cable, right=meeting.cable.right.moved(number + 100))
    meeting.stock.wg_set("peer", meeting.node.info.wireguard_public_key, "endpoint", meeting.stock.shown().endpoint)
