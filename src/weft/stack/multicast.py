"""The multicast groups that sockets of the host have joined.

All hosts of the network are always in the groups of all nodes (224.0.0.1, ff01::1 and ff02::1); every other one is
entered by the first socket that joins it and left with the last.

Source: RFC 1112 section 7; RFC 4291 section 2.8.
Not done here: telling routers of memberships (IGMP, MLD): the network carries what its peers route to each other.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from weft.stack.failure import Failure, StackError

ALL_NODES: Final = frozenset(
    {bytes((224, 0, 0, 1)), b"\xff\x01" + bytes(13) + b"\x01", b"\xff\x02" + bytes(13) + b"\x01"},
)
MAX_GROUPS: Final = 1024


class Groups:
    """How many sockets have joined each group."""

    def __init__(self) -> None:
        self._members: Counter[bytes] = Counter()

    def __contains__(self, group: bytes) -> bool:
        return group in self._members or group in ALL_NODES

    def join(self, group: bytes) -> None:
        """One socket more.

        Raises:
            StackError: NO_ROOM, there are `MAX_GROUPS` already.
        """
        if len(self._members) >= MAX_GROUPS and group not in self._members:
            raise StackError(Failure.NO_ROOM, f"{MAX_GROUPS} multicast groups")
        self._members[group] += 1

    def leave(self, group: bytes) -> None:
        """One socket less."""
        self._members[group] -= 1
        if not self._members[group]:
            del self._members[group]
