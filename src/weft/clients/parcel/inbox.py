"""Receiving files and folders that peers send.

    async with await open_inbox(node, Path("."), allowed=addresses.__contains__) as inbox:
        received = await inbox.next()

Who sends is known by its address, as in all of the network: nobody else can open a connection from there. `allowed`
says who may. One parcel comes each time that `next` is awaited, if it is accepted, and the others wait for their turn.
What breaks off stays as far as it came, and the next time the same is sent it goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from weft.clients.failures import reason_of
from weft.clients.parcel.folder import Conflict, Folder
from weft.clients.parcel.link import READ_BYTES, Link, Progress, StreamNetwork, silent
from weft.clients.parcel.messages import PORT, VERSION, Accept, Offer
from weft.clients.parcel.receive import Received, Receiving
from weft.errors import DecodeError, PeerError, WeftError

CONNECTIONS: Final = 16
"""At a time, with those that wait for their turn."""
OFFER_S: Final = 10.0
"""So soon it is said what there is."""
_ENDED: Final = "it was ended there; send it again, and it goes on from there"


@dataclass(frozen=True)
class Offered:
    """What somebody wants to send."""

    address: str
    """Of the sender, which tells who it is."""
    name: str
    """Of the file or folder, if it is one, as the sender calls it."""
    files: int
    size_bytes: int


Allows = Callable[[str], bool]
"""Says whether who has an address may send anything."""
Accepts = Callable[[Offered], Awaitable[bool]]
"""Says whether something is wanted."""


async def _welcome(offered: Offered) -> bool:
    return True


async def open_inbox(
    network: StreamNetwork,
    folder: Path,
    *,
    allowed: Allows,
    accept: Accepts = _welcome,
    conflict: Conflict = "rename",
    port: int = PORT,
    host: Any = None,
    progress: Progress = silent,
) -> Inbox:
    """Begin to receive.

    Args:
        network: where; a `weft.Node`, say.
        folder: where the files go.
        allowed: who may send.
        accept: is asked about each parcel, one at a time.
        conflict: what to do about other files of the same names; see folder.py.
        port: TCP; 0 for a free one.
        host: where it listens; None for all addresses that this node has in the network.
        progress: is given what is received, and makes for the time of it what is told how far it is.

    Raises:
        OSError: the port can't be had, or there is no such folder.
    """
    Folder(folder, conflict, "").close()
    inbox = Inbox(folder, allowed, accept, conflict, progress)
    await inbox.listen(network, host, port)
    return inbox


class Inbox:
    """Receives until `close`, or the end of `async with`; `open_inbox` makes it."""

    def __init__(self, folder: Path, allowed: Allows, accept: Accepts, conflict: Conflict, progress: Progress) -> None:
        self._folder, self._conflict, self._progress = folder, conflict, progress
        self._allowed, self._accept = allowed, accept
        self._turns = asyncio.Semaphore(0)
        self._ended: asyncio.Queue[Received] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Any = None

    async def listen(self, network: StreamNetwork, host: Any, port: int) -> None:
        """Begin.

        Raises:
            OSError: the port can't be had.
        """
        self._server = await network.start_server(self._enter, host, port, limit=READ_BYTES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self._server.sockets[0].getsockname()[1])

    async def next(self) -> Received:
        """What came of the next parcel, when it is whole, or no more of it comes."""
        self._turns.release()
        return await self._ended.get()

    async def close(self) -> None:
        """Receive no more; who sends is told so."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Who comes.

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("peername")[0]).partition("%")[0]
        async with Link(reader, writer) as link:
            try:
                async with asyncio.timeout(OFFER_S):
                    offer = await link.hear(Offer)
                if offer.version != VERSION:
                    await link.refuse(f"it speaks version {VERSION} of this, and not {offer.version}")
                elif not self._allowed(address):
                    await link.refuse("nothing is taken from you there")
                else:
                    await link.while_there(self._turns.acquire())
                    if await self._is_accepted(link, Offered(address, offer.name, offer.files, offer.size_bytes)):
                        self._ended.put_nowait(await self._receive(link, address, offer))
                    else:
                        await link.refuse("it is not wanted there")
            except asyncio.CancelledError:
                await link.refuse(_ENDED)
                raise
            except DecodeError:
                await link.refuse("what was said makes no sense there")
            except (PeerError, TimeoutError):
                return  # it did not want anything

    async def _is_accepted(self, link: Link, offered: Offered) -> bool:
        """Ask whether something is wanted; if not, it is the next one's turn."""
        is_accepted = False
        try:
            is_accepted = await link.while_there(self._accept(offered))
        finally:
            if not is_accepted:
                self._turns.release()
        return is_accepted

    async def _receive(self, link: Link, address: str, offer: Offer) -> Received:
        received = Received(address=address)
        try:
            await link.say(Accept())
            async with Receiving(link, Folder(self._folder, self._conflict, address), offer, received) as receiving:
                with self._progress(offer.name or f"{offer.files} files") as told:
                    await receiving.run(told)
            await link.until_closed()
        except DecodeError as error:
            received.error = PeerError(f"what it says makes no sense: {error}")
            await link.refuse(f"what was said makes no sense there: {error}")
        except PeerError as error:
            received.error = error
        except (OSError, ValueError, WeftError) as error:
            received.error = error
            await link.refuse(f"it can't be written there: {reason_of(error)}")
        return received
