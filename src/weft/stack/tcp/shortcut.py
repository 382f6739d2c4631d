"""Data from one connection to another of the same host, without a packet.

What is written is handed over at once if nothing before it is on its way and the other end has room for all of it. Then
both are as they would be after a segment and its acknowledgment. All else goes as packets, which come back to the host:
the handshake, what has to wait for room, urgent data, the end.

Source: none; hosts have done so since "TCP fusion" of Solaris 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.stack.tcp.states import RECEIVING

if TYPE_CHECKING:
    from weft.stack.tcp.connection import Connection


def hand_over(connection: Connection, data: bytes) -> bool:
    """Give data to the other end.

    Args:
        connection: whose user writes, and may, after the handshake.
        data: what.

    Returns:
        Whether all of it was taken; nothing has changed otherwise.
    """
    twin, sender = connection.twin, connection.sender
    if twin is None or twin.state not in RECEIVING or twin.has_released:
        return False
    receiver, size = twin.receiver, len(data)
    # If all was acknowledged nothing waits, and all has come, in order.
    if sender.una != sender.buffer.end or size > receiver.edge - receiver.next:
        return False
    receiver.receive(receiver.next, memoryview(data))
    twin.told_to = receiver.next
    twin.notify()
    sender.pass_by(size)
    sender.set_window(receiver.window() << connection.shift)
    return True
