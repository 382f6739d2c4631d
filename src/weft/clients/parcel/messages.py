"""What is said while files go from one peer to another, and its bounds.

It is said on one stream. Each message is a frame:

  0        0: words; 1: the next bytes of a file
  1..4     how many bytes follow: 1 to 65,536 of words, 1 to 262,144 of a file; big-endian
  4..      words: a JSON object whose `type` says which of these; fields that are not known are passed over

| who      | type   | what it says                                                                            |
|----------|--------|-----------------------------------------------------------------------------------------|
| sender   | offer  | first: how many files and folders, and of how many bytes in all                         |
| receiver | accept | they are welcome                                                                        |
| sender   | entry  | one of them: its path, its size (none: a folder), its time                              |
| receiver | have   | to an entry: this came of it another time; its size and its SHA-256, or nothing         |
|          | compare| or: a file of this name and size is there; say only what its hash should be             |
|          | leave  | or: it can't be taken, and why                                                          |
| sender   | start  | after all entries, for each file that was not left: from where on it comes              |
|          | (bytes)| what is in it from there to its end                                                     |
|          | end    | the SHA-256 of the whole; nothing before it if that was to be compared                  |
|          | leave  | at any place between these, or instead of them: no more of it comes, and why            |
| receiver | done   | for each file that was not left before: it is in its place, or why it is not            |
|          | again  | or: what is there is another file; send it, after all others, from its beginning        |
| both     | wait   | nothing yet; said whenever nothing else was for `ALIVE_S`                               |
| both     | refuse | instead of anything: no more, of none of them, and why                                  |

Answers come in the order of what they answer, so that nobody waits for the way there and back of each file: entries
are sent without waiting for `have`, files without waiting for `done`. The receiver tells the hash of nothing but what
it has from this sender: who sends learns of other files only whether they are the same as one that is here.

Not done here: which paths there may be (names.py); who says what when (send.py, receive.py).
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from weft.errors import DecodeError

PORT: Final = 1313
"""TCP, in the network. One above weft's own of UDP, so that 1312 stays free for tunnels over TCP."""
VERSION: Final = 1
ALIVE_S: Final = 10.0
PATIENCE_S: Final = 60.0
"""Without a word for so long, the other side has gone."""

WORDS, BYTES = 0, 1
HEADER_BYTES: Final = 4
LIMITS: Final = {WORDS: 65_536, BYTES: 262_144}
"""Bytes behind the header, by kind."""
ENTRIES: Final = 100_000
"""Files and folders of one parcel."""
PARTS: Final = 64
"""Names of one path."""
NAME_BYTES: Final = 255
"""Of one name, in UTF-8; what most systems have room for."""
PATH_BYTES: Final = 4096
"""Of all of them."""

REASON: Final = 200
"""Characters of a reason for people."""

Size = Annotated[int, Meta(ge=0, le=2**60)]
Text = Annotated[str, Meta(max_length=REASON)]
Hash = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]


class Offer(Struct, frozen=True, kw_only=True, tag="offer"):
    """What there is to be had."""

    version: int = VERSION
    entries: Annotated[int, Meta(ge=1, le=ENTRIES)]
    files: Annotated[int, Meta(ge=0, le=ENTRIES)]
    """Of the entries; the others are folders with nothing in them."""
    size_bytes: Size
    """Of all of them."""
    name: Annotated[str, Meta(max_length=NAME_BYTES)] = ""
    """Of the file or folder, if it is one: no other is taken then. Several come without names, and are not hidden: what
    begins with a full stop tells programs what to do, and is taken only if it could be seen that it comes."""


class Accept(Struct, frozen=True, tag="accept"):
    """Let it come."""


class Entry(Struct, frozen=True, kw_only=True, tag="entry"):
    """One file, or a folder with nothing in it."""

    path: Annotated[list[Annotated[str, Meta(max_length=NAME_BYTES)]], Meta(min_length=1, max_length=PARTS)]
    size_bytes: Size | None
    """None for a folder."""
    time_s: Annotated[int, Meta(ge=0, le=2**33)] = 0
    """When it was changed, since 1970."""
    is_program: bool = False
    """Whether it may be run."""


class Have(Struct, frozen=True, kw_only=True, tag="have"):
    """What came of it another time."""

    size_bytes: Size = 0
    sha256: Hash = ""


class Compare(Struct, frozen=True, tag="compare"):
    """A file of this name and size is there; it may be the same."""


class Start(Struct, frozen=True, kw_only=True, tag="start"):
    """The bytes of a file come, from the end of what was there or from its beginning."""

    from_bytes: Size


class End(Struct, frozen=True, kw_only=True, tag="end"):
    """All of a file has come."""

    sha256: Hash


class Leave(Struct, frozen=True, kw_only=True, tag="leave"):
    """One file is left out."""

    why: Text


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """What came of a file."""

    why: Text = ""
    """It is not in its place; empty if it is."""


class Again(Struct, frozen=True, tag="again"):
    """What is there is another file."""


class Wait(Struct, frozen=True, tag="wait"):
    """Nothing yet."""


class Refuse(Struct, frozen=True, kw_only=True, tag="refuse"):
    """No more."""

    why: Text


Message: TypeAlias = Offer | Accept | Entry | Have | Compare | Start | End | Leave | Done | Again | Wait | Refuse

_DECODER: Final = msgspec.json.Decoder(Message)


def decode_header(header: bytes) -> tuple[int, int]:
    """What a frame is, and how much of it follows.

    Args:
        header: `HEADER_BYTES`.

    Returns:
        `WORDS` or `BYTES`, and how many bytes.

    Raises:
        DecodeError: there is no such kind, or it can't be so long.
    """
    kind, length = header[0], int.from_bytes(header[1:HEADER_BYTES], "big")
    if kind not in LIMITS:
        raise DecodeError("the kind of a frame, 0 or 1")
    if not 1 <= length <= LIMITS[kind]:
        raise DecodeError(f"a frame of 1 to {LIMITS[kind]} bytes", offset=1)
    return kind, length


def decode_words(words: bytes) -> Message:
    """What is in a frame of words.

    Raises:
        DecodeError: it is no message, or something in it is out of its bounds.
    """
    try:
        return _DECODER.decode(words)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("a message about a parcel", offset=HEADER_BYTES) from error


def encode_words(message: Message) -> bytes:
    """The frame of a message."""
    words = msgspec.json.encode(message)
    return encode_header(WORDS, len(words)) + words


def encode_header(kind: int, length: int) -> bytes:
    """The beginning of a frame."""
    assert 1 <= length <= LIMITS[kind]
    return bytes([kind]) + length.to_bytes(HEADER_BYTES - 1, "big")


def shortened(why: str) -> str:
    """A reason, as much of it as a message has room for; what is no text is replaced."""
    return why.encode("utf-8", "replace").decode()[:REASON]
