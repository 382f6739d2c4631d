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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar, cast, get_type_hints

from weft.errors import DecodeError
from weft.stack.endpoint import Endpoint

FAMILY_NONE: Final = 0
FAMILY_IPV4: Final = 2
FAMILY_IPV6: Final = 10
NOWHERE: Final = Endpoint(b"", 0)
"""What an address of no family says; its port may say something still."""

REMEMBERED: Final = 1024
"""Addresses whose bytes are known, in each direction: a program says and hears the same few again and again."""

_FAMILY_OF: Final = {0: FAMILY_NONE, 4: FAMILY_IPV4, 16: FAMILY_IPV6}
_BYTES_OF: Final = {family: length for length, family in _FAMILY_OF.items()}
_ADDRESS: Final = struct.Struct("<HH16s")


@lru_cache(REMEMBERED)
def _decode_address(data: bytes) -> Endpoint:
    family, port, address = _ADDRESS.unpack(data)
    length = _BYTES_OF.get(family)
    if length is None:
        raise DecodeError(f"there is no family {family}")
    return Endpoint(address[:length], port)


@lru_cache(REMEMBERED)
def _encode_address(endpoint: Endpoint) -> bytes:
    address, port = endpoint
    return _ADDRESS.pack(_FAMILY_OF[len(address)], port, address)


@dataclass(frozen=True)
class Kind:
    """What a field of fixed size is.

    Attributes:
        name: in the documentation.
        format: of `struct`, one value.
        decode: makes what the field says of that value; None if it is the same.
        encode: the way back.
    """

    name: str
    format: str
    decode: Callable[[Any], Any] | None = None
    encode: Callable[[Any], Any] | None = None


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
Address = Annotated[Endpoint, Kind("address", f"{_ADDRESS.size}s", _decode_address, _encode_address)]
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
        format: of `struct`, little-endian: the fields of fixed size.
        row: of the rows at the end; None if there are none.
        size: bytes of the fields of fixed size.
    """

    def __init__(self, shape: type[M]) -> None:
        self.shape = shape
        self.row: Layout[Any] | None = None
        self.format = ""
        self._has_rest = False
        self._decoders: list[tuple[int, Callable[[Any], Any]]] = []
        self._encoders: list[tuple[int, Callable[[Any], Any]]] = []
        fields, at = [], 0
        hints = get_type_hints(shape, include_extras=True)
        for place, name in enumerate(cast(Any, shape)._fields):
            kind, *words = hints[name].__metadata__
            size = 0
            if isinstance(kind, Rest):
                self._has_rest = True
                self.row = Layout(kind.row) if kind.row is not None else None
            else:
                size = struct.calcsize(f"<{kind.format}")
                self.format += kind.format
                if kind.decode is not None and kind.encode is not None:
                    self._decoders.append((place, kind.decode))
                    self._encoders.append((place, kind.encode))
            fields.append(Field(name, kind.name, at, size, " ".join(words)))
            at += size
        self.fields = tuple(fields)
        self._struct = struct.Struct(f"<{self.format}")
        self.size = self._struct.size
        self._is_plain = not (self._decoders or self._has_rest)

    def encode(self, message: M) -> bytes:
        """The bytes of a message."""
        values, rest = self.split(message)
        return self._struct.pack(*values) + rest

    def split(self, message: M) -> tuple[Sequence[Any], bytes]:
        """A message in two parts: the values of `format`, and the field at the end, which is not copied."""
        if self._is_plain:
            return message, b""
        values: list[Any] = [*message]
        rest = b""
        if self._has_rest:
            rest = values.pop()
            if self.row is not None:
                rest = b"".join(map(self.row.encode, rest))
        for place, encode in self._encoders:
            values[place] = encode(values[place])
        return values, rest

    def decode(self, body: bytes | memoryview) -> M:
        """The message that bytes are.

        Raises:
            DecodeError: they are none.
        """
        size = self.size
        if len(body) != size and (len(body) < size or not self._has_rest):
            raise DecodeError(f"{len(body)} bytes, not {size}")
        read = self._struct.unpack_from(body)
        if self._is_plain:
            return tuple.__new__(self.shape, read)
        values: list[Any] = [*read]
        for place, decode in self._decoders:
            values[place] = decode(values[place])
        if self._has_rest:
            rest = body[size:]
            values.append(bytes(rest) if self.row is None else self._rows(rest, self.row))
        return tuple.__new__(self.shape, values)

    @staticmethod
    def _rows(rest: bytes | memoryview, row: Layout[Any]) -> tuple[Any, ...]:
        if len(rest) % row.size:
            raise DecodeError(f"{len(rest)} bytes are no rows of {row.size}")
        if row._is_plain:
            return tuple(map(cast(Any, row.shape)._make, row._struct.iter_unpack(rest)))
        return tuple(row.decode(rest[at : at + row.size]) for at in range(0, len(rest), row.size))
