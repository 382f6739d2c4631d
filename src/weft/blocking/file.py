"""Files over a stream: `makefile`, as `socket.socket` has it, but without a descriptor.

Source: `socket.socket.makefile`, `socket.SocketIO`.
"""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from weft.blocking.stream import Stream


class StreamIO(socket.SocketIO):
    """The standard library's file of a socket, which reads and writes it; all that is asked of a name is that it is."""

    @property
    def name(self) -> int:
        """-1, where others have their descriptor."""
        return -1


def open_file(
    stream: Stream,
    mode: str,
    buffering: int | None,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> Any:
    """A file over a stream, which it keeps open.

    Args:
        stream: is read and written.
        mode: "r", "w" or "rw", perhaps with "b".
        buffering: bytes; None or less than 0 for as many as files have, 0 for none.
        encoding: of text.
        errors: how its faults are taken.
        newline: how its lines end.

    Raises:
        ValueError: a mode that is none; text without a buffer.
    """
    if not set(mode) <= {"r", "w", "b"}:
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    if buffering == 0 and "b" not in mode:
        raise ValueError("unbuffered streams must be binary")
    writes = "w" in mode
    reads = "r" in mode or not writes
    raw = StreamIO(cast(socket.socket, stream), cast(Any, "r" * reads + "w" * writes))
    stream.keep_open()
    if buffering == 0:
        return raw
    size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
    if reads and writes:
        buffer: io.BufferedIOBase = io.BufferedRWPair(raw, raw, size)
    else:
        buffer = io.BufferedReader(raw, size) if reads else io.BufferedWriter(raw, size)
    if "b" in mode:
        return buffer
    text: Any = io.TextIOWrapper(cast(Any, buffer), encoding, errors, newline)
    text.mode = mode
    return text
