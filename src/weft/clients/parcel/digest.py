"""The SHA-256 of files as they come and go."""

from __future__ import annotations

import asyncio
import hashlib
from io import FileIO
from typing import Protocol, Self

from weft.clients.parcel.link import BLOCK_BYTES


class Hash(Protocol):
    """What `hashlib` makes, whose type has no name there."""

    def update(self, data: bytes, /) -> None:
        """Go on with what follows."""

    def copy(self) -> Self:
        """Another one, which is as far."""

    def hexdigest(self) -> str:
        """Of all until now."""


async def digest_of(file: FileIO, size_bytes: int) -> Hash:
    """The hash of the beginning of a file, which can go on with what follows; others have their turn meanwhile.

    Args:
        file: is read from its beginning, and stands behind what was read afterwards.
        size_bytes: how much of it; what is not there is not counted.
    """
    digest, left = hashlib.sha256(), size_bytes
    file.seek(0)
    while data := file.read(min(BLOCK_BYTES, left)):
        digest.update(data)
        left -= len(data)
        await asyncio.sleep(0)
    return digest
