"""What the receive windows of all connections of a host may have together, beyond what each begins with.

Windows grow with what their users take, and a peer that sends much to users that take it for a while could make a host
keep much for each of many connections. When the budget is spent, windows stay as they are.
"""

from __future__ import annotations


class Budget:
    """Bytes that are left.

    Attributes:
        left: how many.
    """

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, wanted: int) -> int:
        """Take as many of these bytes as there are."""
        granted = min(wanted, self.left)
        self.left -= granted
        return granted

    def give_back(self, granted: int) -> None:
        """They are needed no longer."""
        self.left += granted
