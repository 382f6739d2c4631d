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
from functools import lru_cache
from typing import Annotated, Any, Final, Generic, NamedTuple, NoReturn, TypeVar, cast, get_type_hints

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

    What decodes and encodes is compiled from the fields once, as the methods of a dataclass are: a function that goes
    through the fields of each message takes twice as long.

    Args:
        shape: a NamedTuple with annotations of this module.

    Attributes:
        shape: the same.
        fields: in their order.
        row: of the rows at the end; None if there are none.
        size: bytes of the fields of fixed size.
        decode: gives the message that bytes are; raises `DecodeError` if they are none.
    """

    def __init__(self, shape: type[M]) -> None:
        self.shape = shape
        self.row: Layout[Any] | None = None
        self._format = ""
        self._rest: str | None = None
        """Name of the field that goes up to the end."""
        self._decoders: dict[str, Callable[[Any], Any]] = {}
        self._encoders: dict[str, Callable[[Any], Any]] = {}
        """Both by names of fields, of those whose values are not what `struct` has for them."""
        fields, at = [], 0
        hints = get_type_hints(shape, include_extras=True)
        for name in cast(Any, shape)._fields:
            kind, *words = hints[name].__metadata__
            size = 0
            if isinstance(kind, Rest):
                self._rest = name
                self.row = Layout(kind.row) if kind.row is not None else None
                decode = bytes if self.row is None else self.row._decode_all
                encode = None if self.row is None else self.row._encode_all
            else:
                size = struct.calcsize(f"<{kind.format}")
                self._format += kind.format
                decode, encode = kind.decode, kind.encode
            if decode is not None:
                self._decoders[name] = decode
            if encode is not None:
                self._encoders[name] = encode
            fields.append(Field(name, kind.name, at, size, " ".join(words)))
            at += size
        self.fields = tuple(fields)
        self.size = at
        self._struct = struct.Struct(f"<{self._format}")
        self.decode: Callable[[bytes | memoryview], M] = self._decoder()
        self._encode = self.encoder()

    def encode(self, message: M) -> bytes:
        """The bytes of a message."""
        return b"".join(self._encode(message))

    def encoder(self, head: str = "", *numbers: int | None) -> Callable[..., tuple[bytes, bytes]]:
        """Make a function that encodes messages with what stands before them.

        Args:
            head: format of `struct`, a letter for each number; the first one is a length.
            numbers: of the head, the length without the field up to the end; None for what each message has of its own.

        Returns:
            A function of a message and of those numbers of its own; it gives the bytes in two parts, of which the
            second is the field up to the end, if there is one: data is not copied.
        """
        own = [f"_number{place}" for place, number in enumerate(numbers) if number is None]
        before = [f"_number{place}" if number is None else str(int(number)) for place, number in enumerate(numbers)]
        names = [field.name for field in self.fields]
        values = [f"_encode_{name}({name})" if name in self._encoders else name for name in names]
        rest = values.pop() if self._rest else "b''"
        if self._rest and before:
            before[0] += " + _len(_rest)"
        lines = [
            f"[{', '.join(names)}] = _message",
            f"_rest = {rest}",
            f"return _pack({', '.join([*before, *values])}), _rest",
        ]
        known = {f"_encode_{name}": encode for name, encode in self._encoders.items()}
        pack = struct.Struct(f"<{head}{self._format}").pack
        encoder: Callable[..., tuple[bytes, bytes]]
        encoder = _compiled(["_message", *own], lines, known | {"_pack": pack, "_len": len})
        return encoder

    def _decoder(self) -> Callable[[bytes | memoryview], M]:
        names = [field.name for field in self.fields if field.name != self._rest]
        values = [f"_decode_{name}({name})" if name in self._decoders else name for name in names]
        if self._rest:
            values.append(f"_decode_{self._rest}(_body[{self.size}:])")
        lines = [
            f"if _len(_body) {'<' if self._rest else '!='} {self.size}:",
            f"    _refuse(_len(_body), {self.size})",
            f"[{', '.join(names)}] = _unpack(_body)",
            f"return _new(_shape, ({''.join(f'{value}, ' for value in values)}))",
        ]
        known = {f"_decode_{name}": decode for name, decode in self._decoders.items()}
        known |= {"_unpack": self._struct.unpack_from, "_new": tuple.__new__, "_shape": self.shape}
        decoder: Callable[[bytes | memoryview], M]
        decoder = _compiled(["_body"], lines, known | {"_len": len, "_refuse": _refuse})
        return decoder

    def _decode_all(self, body: bytes | memoryview) -> tuple[M, ...]:
        """The messages that bytes are, one behind the other."""
        if len(body) % self.size:
            raise DecodeError(f"{len(body)} bytes are no rows of {self.size}")
        if not self._decoders:
            return tuple(map(cast(Any, self.shape)._make, self._struct.iter_unpack(body)))
        return tuple(self.decode(body[at : at + self.size]) for at in range(0, len(body), self.size))

    def _encode_all(self, messages: Iterable[M]) -> bytes:
        return b"".join(map(self.encode, messages))


def _compiled(parameters: list[str], lines: list[str], known: dict[str, Any]) -> Any:
    """A function; nothing but names and numbers of this program gets into its text, and no field begins with "_"."""
    names = dict(known)
    exec("\n    ".join([f"def function({', '.join(parameters)}):", *lines]), names)
    return names["function"]


def _refuse(size: int, expected: int) -> NoReturn:
    raise DecodeError(f"{size} bytes, not {expected}")
