"""Preshared keys: the right one, the wrong one, and one where the other side has none."""

import pytest

from tests.interop.meeting import Meeting, Role, prepare
from tests.system.lab import Lab
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]


@pytest.mark.parametrize("caller", ["weft", "stock"])
def test_same_preshared_key_on_both_sides_lets_packets_cross(lab: Lab, caller: Role) -> None:
    meeting = prepare(lab)
    psk = meeting.stock_host.run("wg", "genpsk")
    add(meeting, caller, weft_psk=psk, stock_psk=psk)
    meeting.wait_until_up()
    assert meeting.loses_nothing(from_stock=True)
    assert meeting.loses_nothing(from_stock=False)


@pytest.mark.parametrize("weft_has", ["another", "none"])
def test_wrong_preshared_key_keeps_weft_out_until_it_has_the_right_one(lab: Lab, weft_has: str) -> None:
    meeting = prepare(lab)
    wrong, right = (meeting.stock_host.run("wg", "genpsk") for _ in range(2))
    add(meeting, "weft", weft_psk=wrong if weft_has == "another" else None, stock_psk=right)
    until(lambda: meeting.dropped("handshake: does not authenticate"), "the response is refused")
    assert meeting.node.peer().state == "connecting"
    assert meeting.stock.shown().handshake_at == 0
    meeting.add_stock("--psk-file", str(meeting.secret(right)), calls=True)
    meeting.wait_until_up()


def test_wrong_preshared_key_keeps_a_stock_device_out_until_it_has_the_right_one(lab: Lab) -> None:
    meeting = prepare(lab)
    wrong, right = (meeting.stock_host.run("wg", "genpsk") for _ in range(2))
    add(meeting, "stock", weft_psk=right, stock_psk=wrong)
    assert not meeting.crosses()
    meeting.stock.process.wait_for("Received invalid response message")
    assert meeting.stock.shown().handshake_at == 0
    assert meeting.node.peer().state == "idle"
    # A new peer does not wait for 5 s after the last attempt.
    meeting.stock.wg_set("peer", meeting.node.info.wireguard_public_key, "remove")
    meeting.add_weft(calls=True)
    meeting.stock.set_preshared_key(right)
    meeting.wait_until_up()


def add(meeting: Meeting, caller: Role, *, weft_psk: str | None, stock_psk: str | None) -> None:
    """Introduce the two, each with its key; the caller calls."""
    meeting.add_weft(calls=caller == "stock")
    if stock_psk:
        meeting.stock.set_preshared_key(stock_psk)
    words = ("--psk-file", str(meeting.secret(weft_psk))) if weft_psk else ()
    meeting.add_stock(*words, calls=caller == "weft")
