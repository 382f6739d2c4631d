"""How the fields of a message lie: a message is a NamedTuple whose fields say what they are, and this reads them.

    class Ping(NamedTuple):
        destination: Annotated[Address, "whom to ask"]
        timeout_ms: Annotated[U32, "how long to wait"]

All numbers are little-endian, and nothing lies between two fields. Addresses are all of one shape:

| offset | size | content                                                                              |
|--------|------|--------------------------------------------------------------------------------------|
| 0      | 2    | family: 0 none, 2 IPv4, 10 IPv6; these numbers on every system                       |
| 2      | 2    | port; 0 where there is none                                                          |
| 4      | 16   | the address as in its packets; of IPv4 in the first 4 bytes, the others are ignored  |

The last field may be bytes, or rows of one more NamedTuple, up to the end of the message.

Not done here: which messages there are (messages.py), and where one ends (frames.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar, cast, get_type_hints

from weft.errors import DecodeError
from weft.stack.endpoint import Endpoint

FAMILY_NONE: Final = 0
FAMILY_IPV4: Final = 2
FAMILY_IPV6: Final = 10
NOWHERE: Final = Endpoint(b"", 0)
"""What an address of no family says; its port may say something still."""

_FAMILY_OF: Final = {0: FAMILY_NONE, 4: FAMILY_IPV4, 16: FAMILY_IPV6}
_BYTES_OF: Final = {family: length for length, family in _FAMILY_OF.items()}


@dataclass(frozen=True)
class Kind:
    """What a field of fixed size is.

    Attributes:
        name: in the documentation.
        format: of `struct`.
    """

    name: str
    format: str


@dataclass(frozen=True)
class Rest:
    """What a field up to the end of the message is.

    Attributes:
        name: in the documentation.
        row: one of its rows, a NamedTuple of fields of fixed size; None for bytes.
    """

    name: str
    row: Any = None


U16 = Annotated[int, Kind("u16", "H")]
U32 = Annotated[int, Kind("u32", "I")]
U64 = Annotated[int, Kind("u64", "Q")]
I32 = Annotated[int, Kind("i32", "i")]
Mac = Annotated[bytes, Kind("6 bytes", "6s")]
Address = Annotated[Endpoint, Kind("address", "HH16s")]
Data = Annotated[bytes, Rest("bytes")]

M = TypeVar("M", bound=tuple[Any, ...])


class Field(NamedTuple):
    """One field, for the documentation; `size` is 0 of what goes up to the end."""

    name: str
    kind: str
    offset: int
    size: int
    meaning: str


class Layout(Generic[M]):
    """The bytes of one message.

    Args:
        shape: a NamedTuple with annotations of this module.

    Attributes:
        shape: the same.
        fields: in their order.
        row: of the rows at the end; None if there are none.
        size: bytes of the fields of fixed size.
    """

    def __init__(self, shape: type[M]) -> None:
        self.shape = shape
        self.row: Layout[Any] | None = None
        self._make: Callable[[Iterable[Any]], M] = cast(Any, shape)._make
        self._has_rest = False
        self._addresses: list[int] = []
        """Where the first of the three values of an address is, the last address first."""
        formats, fields, at = "<", [], 0
        hints = get_type_hints(shape, include_extras=True)
        for place, name in enumerate(cast(Any, shape)._fields):
            kind, *words = hints[name].__metadata__
            size = 0
            if isinstance(kind, Rest):
                self._has_rest = True
                self.row = Layout(kind.row) if kind.row is not None else None
            else:
                size = struct.calcsize(f"<{kind.format}")
                formats += kind.format
                if kind.format == "HH16s":
                    self._addresses.insert(0, place)
            fields.append(Field(name, kind.name, at, size, " ".join(words)))
            at += size
        self.fields = tuple(fields)
        self._struct = struct.Struct(formats)
        self.size = self._struct.size

    def encode(self, message: M) -> bytes:
        """The bytes of a message."""
        return b"".join(self.encode_parts(message))

    def encode_parts(self, message: M) -> tuple[bytes, bytes]:
        """The same in two parts: the fields of fixed size, and the one at the end, which is not copied."""
        if not (self._addresses or self._has_rest):
            return self._struct.pack(*message), b""
        values: list[Any] = list(message)
        rest = b""
        if self._has_rest:
            rest = values.pop()
            if self.row is not None:
                rest = b"".join(map(self.row.encode, rest))
        for place in self._addresses:
            address, port = values[place]
            values[place : place + 1] = _FAMILY_OF[len(address)], port, address
        return self._struct.pack(*values), rest

    def decode(self, body: bytes | memoryview) -> M:
        """The message that bytes are.

        Raises:
            DecodeError: they are none.
        """
        if len(body) < self.size or (len(body) > self.size and not self._has_rest):
            raise DecodeError(f"{len(body)} bytes, not {self.size}")
        if not (self._addresses or self._has_rest):
            return self._make(self._struct.unpack_from(body))
        values = list(self._struct.unpack_from(body))
        for place in reversed(self._addresses):
            values[place : place + 3] = [_endpoint(*values[place : place + 3])]
        if self._has_rest:
            rest = body[self.size :]
            values.append(bytes(rest) if self.row is None else self._rows(rest, self.row))
        return self._make(values)

    @staticmethod
    def _rows(rest: bytes | memoryview, row: Layout[Any]) -> tuple[Any, ...]:
        if len(rest) % row.size:
            raise DecodeError(f"{len(rest)} bytes are no rows of {row.size}")
        if not row._addresses:
            return tuple(map(cast(Any, row.shape)._make, row._struct.iter_unpack(rest)))
        return tuple(row.decode(rest[at : at + row.size]) for at in range(0, len(rest), row.size))


def _endpoint(family: int, port: int, address: bytes) -> Endpoint:
    length = _BYTES_OF.get(family)
    if length is None:
        raise DecodeError(f"there is no family {family}")
    return Endpoint(address[:length], port)
