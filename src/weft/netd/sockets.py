"""The sockets that a client has: made, accepted, found by their numbers, and ended.

| bound                                     | what happens at it                       |
|-------------------------------------------|------------------------------------------|
| `MAX_SOCKETS` of a client                 | -12; who connects waits in the backlog   |
| those of all clients (room.py)            | likewise                                 |

Not done here: what the kinds of sockets do (stream.py, listening.py, datagram.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from weft.netd import messages
from weft.netd.datagram import Datagram
from weft.netd.handle import Family, Handle
from weft.netd.messages import Type
from weft.netd.status import RefusedError, Status
from weft.netd.stream import Stream

if TYPE_CHECKING:
    from weft.io.backend import Backend, Connection
    from weft.netd.room import Room
    from weft.netd.session import Session

MAX_SOCKETS: Final = 4096

_PROTOCOLS: Final = {Type.STREAM: {0, 6}, Type.DATAGRAM: {0, 17}}
_LAST_NUMBER: Final = 0xFFFFFFFF


class Sockets:
    """Those of one client.

    Args:
        session: whose.
        room: of all clients.

    Attributes:
        handles: by their numbers.
    """

    def __init__(self, session: Session, room: Room) -> None:
        self.handles: dict[int, Handle] = {}
        self._session = session
        self._room = room
        self._number = 0

    @property
    def has_room(self) -> bool:
        """Whether the client may have one more."""
        return len(self.handles) < MAX_SOCKETS and self._room.sockets > 0

    def check_room(self) -> None:
        """Refuse one more than there may be.

        Raises:
            RefusedError: NO_RESOURCE.
        """
        if not self.has_room:
            raise RefusedError(Status.NO_RESOURCE)

    def create(self, asked: messages.Create) -> messages.Created:
        """Make one.

        Raises:
            RefusedError: NOT_SUPPORTED, NO_INTERFACE, NO_RESOURCE.
        """
        if asked.type not in {*Type} or asked.protocol not in _PROTOCOLS[Type(asked.type)]:
            raise RefusedError(Status.NOT_SUPPORTED)
        family = Family(asked.family)
        backend = self._session.backend()
        self.check_room()
        kind = Stream if asked.type == Type.STREAM else Datagram
        return messages.Created(self._keep(kind(self._session, self._next_number(), backend, family)))

    def take_accepted(self, backend: Backend, family: Family, connection: Connection) -> int:
        """Have one more, for a connection; returns its number."""
        return self._keep(Stream(self._session, self._next_number(), backend, family, connection))

    def replace(self, old: Handle, new: Handle) -> None:
        """One becomes another kind."""
        self.handles[new.number] = new
        self._session.polling.replace(old, new)

    def find(self, number: int) -> Handle:
        """One of them.

        Raises:
            RefusedError: INVALID_HANDLE.
        """
        handle = self.handles.get(number)
        if handle is None:
            raise RefusedError(Status.INVALID_HANDLE)
        return handle

    def end(self, handle: Handle, *, abort: bool) -> None:
        """End one; what waits at it is answered."""
        del self.handles[handle.number]
        self._room.sockets += 1
        handle.close(abort=abort)
        self._session.polling.leave(handle)
        # A listener may take who waits, now that there is room.
        for each in list(self.handles.values()) if len(self.handles) == MAX_SOCKETS - 1 else ():
            each.go_on()

    def lose(self, backend: Backend) -> None:
        """A backend has gone, and its sockets with it."""
        for handle in [each for each in self.handles.values() if each.backend is backend]:
            self.end(handle, abort=True)

    def close(self) -> None:
        """The client has gone; what it sent still arrives."""
        while self.handles:
            handle = self.handles.popitem()[1]
            self._room.sockets += 1
            handle.polls.clear()
            handle.close()

    def _next_number(self) -> int:
        # 0 is none, and a number is not used twice before all were.
        self._number = self._number % _LAST_NUMBER + 1
        while self._number in self.handles:
            self._number = self._number % _LAST_NUMBER + 1
        return self._number

    def _keep(self, handle: Handle) -> int:
        self.handles[handle.number] = handle
        self._room.sockets -= 1
        self._session.polling.join(handle)
        handle.note()
        return handle.number
