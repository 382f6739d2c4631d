"""Sending files and folders to a peer that waits for them.

    report = await send(node, "bob", [Path("photos")])

See messages.py for what is said. All entries are announced first, and the answers say what is there already.
Then the files follow each other, each from where it has to be gone on with: what came another time counts if its hash
is that of as much of the file here.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final, TypeAlias

from weft.clients.failures import reason_of
from weft.clients.parcel.digest import Hash, digest_of
from weft.clients.parcel.link import (
    BLOCK_BYTES,
    READ_BYTES,
    BrokenOffError,
    Link,
    Progress,
    RefusedError,
    StreamNetwork,
    Told,
    silent,
    together,
)
from weft.clients.parcel.messages import PORT, Accept, Again, Compare, Done, End, Have, Leave, Start, shortened
from weft.clients.parcel.pack import Item, Parcel, pack
from weft.clients.report import Report
from weft.errors import DecodeError, PeerError

CONNECT_S: Final = 10.0
_OPEN: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_REFUSED: Final = tuple(os.strerror(number).lower() for number in (errno.ECONNREFUSED, errno.EACCES))
_CHANGED: Final = "was changed while it was sent; send it again"


Asked: TypeAlias = tuple[Item, Have | Compare]
"""A file, and what the other side said to it."""


class SendError(PeerError):
    """They did not get there, or not all of them."""


async def send(
    network: StreamNetwork,
    peer: Any,
    places: Sequence[Path],
    *,
    port: int = PORT,
    progress: Progress = silent,
) -> Report:
    """Send files and folders.

    Args:
        network: where; a `weft.Node`, say.
        peer: who is to have them: what `open_connection` of the network takes for a host.
        places: the files and folders.
        port: where the peer receives.
        progress: is given what is sent, and makes for the time of it what is told how far it is.

    Returns:
        What came of it; `left_out` names what the peer has not.

    Raises:
        SendError: nobody receives there, or they do not want it, or it broke off; then it can be done again, and goes
            on from there.
        OSError: a file can't be read.
        UsageError: something can't be sent.
    """
    parcel = await asyncio.to_thread(pack, places)
    async with Link(*await _connect(network, peer, port)) as link:
        sending = _Sending(link, parcel)
        try:
            await link.say(parcel.offer)
            await link.hear(Accept)
            with progress(parcel.offer.name or f"{parcel.offer.files} files") as told:
                await sending.run(told)
        except RefusedError as error:
            raise SendError(f"{peer}: {error}") from error
        except BrokenOffError as error:
            raise SendError(f"{peer}: {sending.broken(str(error))}") from error
        except DecodeError as error:
            raise SendError(f"{peer}: what answers there is no `weft receive`, or speaks another version") from error
    return sending.report


async def _connect(network: StreamNetwork, peer: Any, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_S):
            return await network.open_connection(peer, port, limit=READ_BYTES)
    except OSError as error:
        reason = reason_of(error)
        if reason in _REFUSED:
            # A firewall answers likewise.
            raise SendError(
                f"nobody receives at {peer}; there run `weft receive`, "
                f"and `weft fc00 allow /tcp/{port}` if its firewall lets nobody in"
            ) from error
        raise SendError(f"{peer}: {reason}") from error


class _Sending:
    """One parcel on its way.

    Args:
        link: to who takes it, and has not been asked yet.
        parcel: what there is.
    """

    def __init__(self, link: Link, parcel: Parcel) -> None:
        self._link, self._parcel = link, parcel
        self._size_bytes = parcel.offer.size_bytes
        self._told: Told = lambda size_bytes, of_bytes: None
        self._there_bytes = 0
        self._starts: dict[Item, int | None] = {}
        """Of what was sent and not answered yet, from where on; None of what was left out instead."""
        self.report = Report(left_out=list(parcel.left_out))

    async def run(self, told: Told) -> None:
        """Send it.

        Raises:
            BrokenOffError, DecodeError, RefusedError: it can't be gone on with.
        """
        self._told = told
        asked: list[Asked] = []
        await together(self._announce(), self._ask(asked))
        while asked:
            again: list[Asked] = []
            await together(self._give_all(asked), self._learn(asked, again))
            asked = again

    def broken(self, why: str) -> str:
        """What to say of an end in the middle."""
        if not self._there_bytes:
            return why
        return (
            f"it broke off after {self._there_bytes} of {self._size_bytes} bytes: {why}; "
            "the same again goes on from there"
        )

    # What there is.

    async def _announce(self) -> None:
        with suppress(BrokenOffError):  # who listens hears it too, and perhaps why
            for item in self._parcel.items:
                await self._link.say(item.entry)

    async def _ask(self, asked: list[Asked]) -> None:
        for item in self._parcel.items:
            answer = await self._link.hear(Have, Compare, Leave)
            if isinstance(answer, Leave):
                self._leave_out(item, answer.why)
                self._tell(item.size_bytes)
            elif isinstance(answer, Have) and answer.size_bytes > item.size_bytes:
                raise DecodeError("no more of a file than there is")
            elif not item.is_folder:
                asked.append((item, answer))

    # The files.

    async def _give_all(self, asked: Sequence[Asked]) -> None:
        with suppress(BrokenOffError):
            for item, have in asked:
                before = self._there_bytes
                if why := await self._give(item, have):
                    self._leave_out(item, why)
                    self._starts[item] = None
                    self._there_bytes = before
                    self._tell(item.size_bytes)
                    await self._link.say(Leave(why=shortened(why)))

    async def _give(self, item: Item, have: Have | Compare) -> str:
        """Send one file; why it could not be, or nothing."""
        try:
            # Nothing but a file: what was one a moment ago may be a pipe by now.
            descriptor = os.open(item.place, _OPEN)
        except OSError as error:
            return reason_of(error)
        with FileIO(descriptor) as file:
            try:
                if _version(os.fstat(descriptor)) != _version(item.found):
                    return _CHANGED
                return await (
                    self._tell_hash(file, item) if isinstance(have, Compare) else self._go_on(file, item, have)
                )
            except OSError as error:
                return reason_of(error)

    async def _tell_hash(self, file: FileIO, item: Item) -> str:
        digest = await digest_of(file, item.size_bytes)
        return await self._end(file, item, digest, item.size_bytes)

    async def _go_on(self, file: FileIO, item: Item, have: Have) -> str:
        start, digest = have.size_bytes, await digest_of(file, have.size_bytes)
        if start and digest.hexdigest() != have.sha256:
            start, digest = 0, hashlib.sha256()
        file.seek(start)
        await self._link.say(Start(from_bytes=start))
        self._tell(start)
        left = item.size_bytes - start
        while left:
            data = file.read(min(BLOCK_BYTES, left))
            if not data:
                return _CHANGED
            digest.update(data)
            await self._link.give(data)
            left -= len(data)
            self._tell(len(data))
        return await self._end(file, item, digest, start)

    async def _end(self, file: FileIO, item: Item, digest: Hash, start: int) -> str:
        if _version(os.fstat(file.fileno())) != _version(item.found):
            return _CHANGED
        self._starts[item] = start
        await self._link.say(End(sha256=digest.hexdigest()))
        return ""

    async def _learn(self, asked: Sequence[Asked], again: list[Asked]) -> None:
        """Hear what became of each file."""
        for item, have in asked:
            answer = await self._link.hear(Done, Again)
            if item not in self._starts or (isinstance(answer, Again) and not isinstance(have, Compare)):
                raise DecodeError("what became of a file that was sent")
            start = self._starts.pop(item)
            if start is None:
                continue  # it was left out here
            if isinstance(answer, Again):
                again.append((item, Have()))
            elif answer.why:
                self._leave_out(item, answer.why)
            elif isinstance(have, Compare):
                self.report.unchanged += 1
                self._tell(item.size_bytes)
            else:
                self.report.files += 1
                self.report.size_bytes += item.size_bytes
                self.report.resumed_from_bytes += start

    def _leave_out(self, item: Item, why: str) -> None:
        self.report.left_out.append(f"{item.place}: {why}")

    def _tell(self, more_bytes: int) -> None:
        self._there_bytes += more_bytes
        self._told(self._there_bytes, self._size_bytes)


def _version(found: os.stat_result) -> tuple[int, int, int]:
    """What is the same as long as a file is."""
    return stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns
