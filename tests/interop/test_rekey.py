"""A new session replaces the old one under traffic, and no packet is lost over it.

Debian's wireguard-go has no way to ask for a new session early. So where it begins, only the long form shows a rekey;
where weft begins, a daemon whose REKEY_AFTER_TIME is shorter does it within seconds, by the same code.
"""

import time
from pathlib import Path

import pytest

from tests.interop.meeting import Meeting, Role, meet, prepare
from tests.interop.pinging import Pinging
from tests.system.lab import Lab
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

LONG_S = 250
HASTY = Path(__file__).parent / "hasty"
"""A daemon that has this in PYTHONPATH rekeys after 5 s."""


def test_ping_both_ways_loses_nothing_while_weft_rekeys_twice(lab: Lab) -> None:
    meeting = prepare(lab, PYTHONPATH=str(HASTY))
    meeting.introduce("weft")
    meeting.wait_until_up()
    pings = pings_both_ways(meeting)
    until(lambda: meeting.handshakes("weft") == 3, "two more handshakes", 20)
    for ping in pings:
        ping.wait_for_more(50)
    assert_nothing_lost(pings)
    assert meeting.handshakes("stock") == 0


@pytest.mark.long
@pytest.mark.timeout(LONG_S + 100)
@pytest.mark.parametrize("caller", ["weft", "stock"])
def test_ping_both_ways_loses_nothing_in_250_s_with_real_timers(lab: Lab, caller: Role) -> None:
    meeting = meet(lab, caller=caller)
    pings = pings_both_ways(meeting)
    end = time.monotonic() + LONG_S
    until(lambda: time.monotonic() >= end, "the end", LONG_S + 1)
    sent = assert_nothing_lost(pings)
    print("\n".join(line for line in meeting.stock.process.output().splitlines() if "handshake" in line))
    print(meeting.stock_host.run("wg", "show", meeting.stock.ifname))
    assert sent > 2 * 25 * LONG_S
    assert meeting.handshakes(caller) == 3
    assert meeting.handshakes("weft" if caller == "stock" else "stock") == 0


def pings_both_ways(meeting: Meeting) -> list[Pinging]:
    """A ping from each end."""
    return [
        Pinging(meeting.weft_host, meeting.stock_addresses[0]),
        Pinging(meeting.stock_host, meeting.weft_addresses[0]),
    ]


def assert_nothing_lost(pings: list[Pinging]) -> int:
    """End them; the number of requests, all of which were answered."""
    ended = [ping.stop() for ping in pings]
    for ping in ended:
        print(ping)
        assert ping.received == ping.sent
    return sum(ping.sent for ping in ended)
