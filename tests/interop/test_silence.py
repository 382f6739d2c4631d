"""Traffic one way only: the silent end's keepalives keep the session, and nobody begins another."""

import socket
import time

import pytest

from tests.interop.meeting import Role, meet
from tests.system.lab import Host, Lab
from tests.system.traffic import socket_of
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg"), pytest.mark.long]

PORT = 9000
SECONDS = 40
"""Longer than twice NEW_HANDSHAKE_TIME."""


@pytest.mark.parametrize("from_stock", [True, False], ids=["from stock", "from weft"])
def test_silent_end_sends_keepalives_and_no_handshake_follows(lab: Lab, from_stock: bool) -> None:
    meeting = meet(lab)
    sender, (address, _) = meeting.way(from_stock=from_stock)
    receiver = meeting.weft_host if from_stock else meeting.stock_host
    silent: Role = "weft" if from_stock else "stock"
    before = meeting.keepalives(silent)
    sent = send_for(SECONDS, sender, receiver, address)
    assert sent > SECONDS / 2
    assert meeting.keepalives(silent) - before in {3, 4}
    assert (meeting.handshakes("weft"), meeting.handshakes("stock")) == (1, 0)


def send_for(seconds: float, sender: Host, receiver: Host, address: str) -> int:
    """Send a datagram now and then to a port that takes it and says nothing; returns how many arrived."""
    with (
        socket_of(receiver, address, socket.SOCK_DGRAM) as sink,
        socket_of(sender, address, socket.SOCK_DGRAM) as source,
    ):
        sink.bind((address, PORT))
        end = time.monotonic() + seconds
        received = 0

        def pass_one() -> bool:
            nonlocal received
            source.sendto(b"one way", (address, PORT))
            assert sink.recv(100) == b"one way"
            received += 1
            return time.monotonic() > end

        until(pass_one, "the end", seconds + 10)
    return received
