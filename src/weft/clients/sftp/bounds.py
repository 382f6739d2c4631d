"""How much a server of SFTP may name before it is not believed any more: it could go on without end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import asyncssh

from weft.errors import PeerError

ENTRIES: Final = 1_000_000
"""In a folder, and of all that is to be copied at once."""
DEPTH: Final = 128
"""Folders in folders."""


def check_number(number: int) -> None:
    """Look whether there can be so many.

    Raises:
        PeerError: there can't.
    """
    if number > ENTRIES:
        raise PeerError(f"the server names more than {ENTRIES} files; copy a part of them at a time")


def check_depth(depth: int) -> None:
    """Look whether folders can be so deep.

    Raises:
        PeerError: they can't.
    """
    if depth > DEPTH:
        raise PeerError(f"the folders of the server are more than {DEPTH} deep; copy those inside by themselves")


def bound_listings(sftp: Any) -> None:
    """Let all that a client lists have a bound, patterns too, for which asyncssh lists folders by itself."""
    scandir = sftp.scandir

    async def bounded(path: Any = ".") -> AsyncIterator[asyncssh.SFTPName]:
        number = 0
        async for entry in scandir(path):
            number += 1
            check_number(number)
            yield entry

    sftp.scandir = bounded
