"""The tables of docs/netd.md, from the table of messages.

Between two lines `<!-- NAME -->` and `<!-- end -->` of the page stands what `tables` gives for NAME; a test holds both
to be the same. `python -m weft.netd.reference docs/netd.md` writes it anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from weft.netd import polling, questions, room, server, session, sockets, stream
from weft.netd.frames import HEAD_BYTES, STATUS_BYTES
from weft.netd.layout import Layout
from weft.netd.messages import EVENT, HAPPENED, MAX_DATA_BYTES, MESSAGES, READY_MEANING, Code, code_of_reply
from weft.netd.status import Status

_LENGTH_BYTES: Final = 4
_REQUEST_AT: Final = _LENGTH_BYTES + HEAD_BYTES
_REPLY_AT: Final = _REQUEST_AT + STATUS_BYTES
_PART: Final = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """All of them, by name."""
    return {
        "codes": "\n".join(_codes()),
        "messages": "\n".join(_messages()),
        "flags": "\n".join(_flags()),
        "statuses": "\n".join(_statuses()),
        "bounds": "\n".join(_bounds()),
    }


_BOUNDS: Final = (
    ("clients", server.MAX_CLIENTS),
    ("sockets of a client", sockets.MAX_SOCKETS),
    ("sockets of all clients", room.MAX_SOCKETS),
    ("requests of a client that wait", session.MAX_WAITING),
    ("names of a client that are looked up", questions.MAX_LOOKUPS),
    ("pings of a client that wait", questions.MAX_PINGS),
    ("rows of a POLL", polling.MAX_ROWS),
    ("rows of all POLLs of a client that wait", polling.MAX_POLLED),
    ("bytes in SENDs of a client that wait", session.MAX_RESERVED_BYTES),
    ("bytes in SENDs of all clients that wait", room.MAX_RESERVED_BYTES),
    ("bytes of answers that a client does not read, before it is not read either", session.MAX_OUTPUT_BYTES),
    ("bytes of data in one message", MAX_DATA_BYTES),
    ("bytes of a stream that SEND takes and that have not left", stream.HIGH_BYTES),
)


def filled(page: str) -> str:
    """A page with its tables as they are now."""
    made = tables()
    return _PART.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[3]}", page)


def _codes() -> Iterator[str]:
    yield "| request | reply | name | what it does | when the reply comes, if not at once |"
    yield "|---|---|---|---|---|"
    for code, message in MESSAGES.items():
        yield f"| {code} | {code_of_reply(code):#x} | `{Code(code).name}` | {message.meaning} | {message.waits} |"


def _messages() -> Iterator[str]:
    for code, message in MESSAGES.items():
        yield f"### {Code(code).name} ({code}, {code_of_reply(code):#x})"
        yield ""
        yield from _fields("request", message.request, _REQUEST_AT)
        yield from _fields("reply", message.reply, _REPLY_AT)
    yield f"### Event ({EVENT:#x})"
    yield ""
    yield from _fields("event", HAPPENED, _REPLY_AT)


def _fields(kind: str, layout: Layout[Any], at: int) -> Iterator[str]:
    if not layout.fields:
        yield f"The {kind} has no fields: it is {at} bytes long."
        yield ""
        return
    yield f"| {kind}: offset | size | field | type | what it is |"
    yield "|---|---|---|---|---|"
    for field in layout.fields:
        size = str(field.size) if field.size else "to the end"
        yield f"| {at + field.offset} | {size} | `{field.name}` | {field.kind} | {field.meaning} |"
    yield ""
    if layout.row is not None:
        yield f"Each row has {layout.row.size} bytes:"
        yield ""
        yield from _fields("row", layout.row, 0)


def _flags() -> Iterator[str]:
    yield "| flag | name | meaning |"
    yield "|---|---|---|"
    for flag, meaning in READY_MEANING.items():
        yield f"| {flag.value} | {str(flag.name).lower()} | {meaning} |"


def _bounds() -> Iterator[str]:
    yield "| what | at most |"
    yield "|---|---|"
    for what, most in _BOUNDS:
        yield f"| {what} | {most:,} |"


def _statuses() -> Iterator[str]:
    yield "| status | name | meaning |"
    yield "|---|---|---|"
    for status in Status:
        yield f"| {int(status)} | `{status.name}` | {status.meaning} |"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text("utf-8")), "utf-8")
