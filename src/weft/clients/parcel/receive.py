"""One parcel that is received: each file is looked for, gone on with, checked and put into its place.

See messages.py for what is said, and folder.py for where it goes. What the sender gets wrong ends the
parcel; what came so far stays.

Not done here: who may send (inbox.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, TypeAlias

from weft.clients.failures import reason_of
from weft.clients.parcel.folder import NOTHING, Beginning, Folder, Part
from weft.clients.parcel.link import BrokenOffError, Link, Told, together
from weft.clients.parcel.messages import Again, Compare, Done, End, Entry, Have, Leave, Offer, Start, shortened
from weft.clients.parcel.names import Paths
from weft.clients.report import Report
from weft.errors import DecodeError

AT_ONCE: Final = 8
"""Files that are forced to the disk at a time: it takes them together."""
SHOWN: Final = 80
"""Characters of a path that can't be one."""
_ANOTHER: Final = "another file of this name is there"


Coming: TypeAlias = tuple[Entry, Beginning | None]
"""A file, and what came of it another time; None if one of its name is to be compared."""
Outcome: TypeAlias = Done | Again | asyncio.Task[Done]
"""What is to be said of a file, or will be when it is in its place."""


@dataclass
class Received(Report):
    """What came of a parcel."""

    address: str = ""
    """Of the sender."""
    names: set[str] = field(default_factory=set)
    """What is in the folder now: files by their names there, and folders as a whole."""
    error: Exception | None = None
    """Why the rest did not come."""


class Receiving:
    """One parcel on its way, for `async with`; at its end, what has come as a whole is in its place.

    Args:
        link: to who sends it, and waits for the first answer.
        folder: where it goes; is closed at the end.
        offer: what there is.
        received: is told what came.
    """

    def __init__(self, link: Link, folder: Folder, offer: Offer, received: Received) -> None:
        self._link, self._folder, self._offer, self._received = link, folder, offer, received
        self._paths = Paths()
        self._told: Told = lambda size_bytes, of_bytes: None
        self._there_bytes = self._announced_bytes = 0
        self._settling: set[asyncio.Task[Done]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._settling:
            await asyncio.wait(self._settling)
        self._folder.close()

    async def run(self, told: Told) -> None:
        """Take it.

        Raises:
            DecodeError: what is said makes no sense, or a path leads elsewhere.
            BrokenOffError, RefusedError: the sender does not go on.
            OSError, UsageError: it can't be written.
        """
        self._told = told
        try:
            await self._run()
        except BrokenOffError as error:
            of = f"{self._there_bytes} of {self._offer.size_bytes} bytes"
            raise BrokenOffError(f"it broke off after {of}: {error}") from error

    async def _run(self) -> None:
        answers = [await self._look(await self._link.hear(Entry)) for _ in range(self._offer.entries)]
        coming = [answer for answer in answers if answer is not None]
        while coming:
            again: list[Coming] = []
            outcomes: asyncio.Queue[Outcome] = asyncio.Queue(AT_ONCE)
            await together(self._take_all(coming, outcomes, again), self._answer(outcomes, len(coming)))
            coming = again

    async def _look(self, entry: Entry) -> Coming | None:
        """Answer to one entry; what there is of it, if it comes."""
        path, size = entry.path, entry.size_bytes
        if fault := self._paths.add(path, is_folder=size is None):
            raise DecodeError(f"the path of a file, not {'/'.join(path)[:SHOWN]!r}, which {fault}")
        if path[0] != self._offer.name and (self._offer.name or path[0].startswith(".")):
            raise DecodeError("what was offered by its name, and nothing hidden beside it")
        self._announced_bytes += size or 0
        if self._announced_bytes > self._offer.size_bytes:
            raise DecodeError("no more bytes than were offered")
        try:
            if size is None:
                self._folder.make(path)
                self._received.names.add(path[0])
                await self._link.say(Have())
                return None
            beginning = await self._folder.find(path, size)
        except OSError as error:
            self._leave_out(entry, _why(error))
            await self._link.say(Leave(why=shortened(_why(error))))
            return None
        if beginning is None:
            await self._link.say(Compare())
        else:
            sha256 = beginning.digest.hexdigest() if beginning.size_bytes else ""
            await self._link.say(Have(size_bytes=beginning.size_bytes, sha256=sha256))
        return entry, beginning

    async def _take_all(self, coming: Sequence[Coming], outcomes: asyncio.Queue[Outcome], again: list[Coming]) -> None:
        """Take the files; what is to be taken again is added to `again`."""
        for entry, beginning in coming:
            if beginning is not None:
                outcome = await self._take(entry, beginning)
            else:
                outcome = await self._compare(entry)
            if isinstance(outcome, Again):
                again.append((entry, NOTHING))
            await outcomes.put(outcome)

    async def _answer(self, outcomes: asyncio.Queue[Outcome], count: int) -> None:
        """Say what became of the files, in their order."""
        for _ in range(count):
            outcome = await outcomes.get()
            # A thread may be about it, which nobody can end.
            await self._link.say(await asyncio.shield(outcome) if isinstance(outcome, asyncio.Task) else outcome)

    async def _take(self, entry: Entry, beginning: Beginning) -> Outcome:
        """Take one file, from where it is gone on with."""
        answer = await self._link.hear(Start, Leave)
        if isinstance(answer, Leave):
            return self._leave_out(entry, answer.why)
        if answer.from_bytes not in {0, beginning.size_bytes}:
            raise DecodeError("to go on where the file ends, or at its beginning")
        part = self._folder.begin(entry.path, beginning if answer.from_bytes else NOTHING)
        self._tell(answer.from_bytes)
        try:
            why = await self._fill(part, entry)
        except BaseException:
            part.close(keep=True)
            raise
        if why:
            part.close(keep=False)
            return self._leave_out(entry, why)
        settling = asyncio.get_running_loop().create_task(self._settle(part, entry, answer.from_bytes))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)
        return settling

    async def _fill(self, part: Part, entry: Entry) -> str:
        """Take the bytes of a file; why they are worth nothing, if so."""
        while True:
            answer = await self._link.hear(End, Leave, or_bytes=True)
            if isinstance(answer, Leave):
                return answer.why
            if isinstance(answer, End):
                if part.size_bytes != entry.size_bytes:
                    raise DecodeError("as many bytes as the file has")
                return "" if answer.sha256 == part.digest.hexdigest() else "what came has another hash; send it again"
            if part.size_bytes + len(answer) > (entry.size_bytes or 0):
                raise DecodeError("no more bytes than the file has")
            part.write(answer)
            self._tell(len(answer))

    async def _settle(self, part: Part, entry: Entry, resumed: int) -> Done:
        """Put a file that is whole into its place."""
        keep = True
        try:
            name = await asyncio.to_thread(_finish, part, entry)
        except FileExistsError as error:
            keep = False
            return self._leave_out(entry, _why(error))
        finally:
            part.close(keep=keep)
        self._received.names.add(name if len(entry.path) == 1 else entry.path[0])
        self._received.files += 1
        self._received.size_bytes += part.size_bytes
        self._received.resumed_from_bytes += resumed
        return Done()

    async def _compare(self, entry: Entry) -> Outcome:
        """Look whether the file that is there is the one that was to come."""
        answer = await self._link.hear(End, Leave)
        if isinstance(answer, Leave):
            return self._leave_out(entry, answer.why)
        if await self._folder.hash_of(entry.path) == answer.sha256:
            self._received.unchanged += 1
            self._received.names.add(entry.path[0])
            self._tell(entry.size_bytes or 0)
            return Done()
        return self._leave_out(entry, _ANOTHER) if self._folder.conflict == "skip" else Again()

    def _leave_out(self, entry: Entry, why: str) -> Done:
        self._received.left_out.append(f"{'/'.join(entry.path)}: {why}")
        return Done(why=shortened(why))

    def _tell(self, more_bytes: int) -> None:
        self._there_bytes += more_bytes
        self._told(self._there_bytes, self._offer.size_bytes)


def _finish(part: Part, entry: Entry) -> str:
    part.settle(entry.time_s, is_program=entry.is_program)
    return part.finish()


def _why(error: OSError) -> str:
    return _ANOTHER if isinstance(error, FileExistsError) else reason_of(error)
