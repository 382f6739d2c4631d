"""Fetching a file over HTTP, byte for byte as it is there; what broke off goes on where it was.

| what there is of it | what is asked for           | what comes                    | what is done              |
|---------------------|-----------------------------|-------------------------------|---------------------------|
| nothing             | all of it                   | 200                           | written from the beginning |
| a part of a version | the rest, if it is that one | 206, from where the part ends | written behind it         |
|                     |                             | 200: it is another by now     | written from the beginning |
|                     |                             | 416, and the part is as long  | it is whole               |
|                     |                             | anything that fits nothing    | all of it is asked for    |
| a part of none      | all of it                   | 200                           | written from the beginning |

A version is told by a strong `ETag`, or by a `Last-Modified` that had been over for a second when it was said. Anything
that weakens it, such as compression on the way, is declined.

A connection that breaks after something has come is made again, after `PAUSES_S`; as often as more has come each time.

Source: RFC 9110 sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges), 15.5.17 (416).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2

from weft.clients.failures import reason_of
from weft.clients.http.partial import Origin, Sink
from weft.clients.http.redirects import REDIRECTS, is_same, parsed, redirect_of, shown
from weft.errors import PeerError

PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
TIMEOUT: Final = httpx2.Timeout(30.0, connect=10.0)
"""s; for the connection, and for anything to come."""

Told = Callable[[int, int | None], None]
"""Is told how many bytes of how many are there, if that is known."""

_PARTIAL: Final = 206
_UNSATISFIABLE: Final = 416
_IDENTITY: Final = {"Accept-Encoding": "identity"}
_SETTLED: Final = timedelta(seconds=1)
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d+)")


class FetchError(PeerError):
    """It can't be had, or not now."""


class TooLargeError(FetchError):
    """It is larger than what is taken, or than its server said."""


class _MismatchError(Exception):
    """What came is not the rest of the part that there is."""


async def fetch(
    client: httpx2.AsyncClient,
    url: str,
    sink: Sink,
    *,
    headers: Sequence[tuple[str, str]] = (),
    max_bytes: int | None = None,
    told: Told = lambda size_bytes, of_bytes: None,
) -> httpx2.URL:
    """Fetch a file.

    Args:
        client: asks; where it may be sent is said in redirects.py, and by the network that it connects in.
        url: where it is.
        sink: where it goes, and what there may be of it already.
        headers: of the request.
        max_bytes: of the file; None for as many as there are.
        told: is called at the beginning, and whenever something came.

    Returns:
        Where it was, after all redirects.

    Raises:
        FetchError: the server says no, or the connection broke again and again.
        TooLargeError: there is more of it than is taken, or than the server said.
        PeerError: it leads to where it is not followed.
        OSError: it can't be written, or there is no room for it.
    """
    pauses = iter(PAUSES_S)
    most = sink.size_bytes
    while True:
        try:
            return await _attempt(client, url, sink, headers, max_bytes, told)
        except _MismatchError:
            sink.begin(Origin(source=sink.origin.source))
            continue
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            if sink.size_bytes > most:
                most, pauses = sink.size_bytes, iter(PAUSES_S)
            pause_s = next(pauses, None) if most and isinstance(error, httpx2.TransportError) else None
            if pause_s is None:
                raise FetchError(_broken(error, sink)) from error
        await asyncio.sleep(pause_s)


async def _attempt(
    client: httpx2.AsyncClient,
    url: str,
    sink: Sink,
    headers: Sequence[tuple[str, str]],
    max_bytes: int | None,
    told: Told,
) -> httpx2.URL:
    """Ask once, where it is and wherever that leads."""
    asked = here = parsed(url)
    condition = {}
    if sink.size_bytes and sink.origin.version:
        condition = {"Range": f"bytes={sink.size_bytes}-", "If-Range": sink.origin.version}
    for _ in range(REDIRECTS + 1):
        wanted = httpx2.Headers([*_IDENTITY.items(), *(headers if is_same(asked, here) else ())])
        wanted.update(condition)
        try:
            async with client.stream("GET", here, headers=wanted, timeout=TIMEOUT, follow_redirects=False) as response:
                there = redirect_of(response)
                if there is None:
                    await _take(response, sink, max_bytes, told, is_rest=bool(condition))
                    return here
        except httpx2.ConnectError as error:
            if here == asked:
                raise
            raise FetchError(f"{shown(asked)} leads to {shown(here)}, which can't be had: {error}") from error
        here = there
    raise FetchError(f"{shown(asked)}: it has led to {REDIRECTS} redirects")


async def _take(response: httpx2.Response, sink: Sink, max_bytes: int | None, told: Told, *, is_rest: bool) -> None:
    """Write what an answer brings.

    Args:
        response: its head.
        sink: where it goes.
        max_bytes: of the file.
        told: how far it is.
        is_rest: whether only what is missing was asked for.
    """
    if response.status_code == _UNSATISFIABLE and is_rest:
        found = _UNSATISFIED.fullmatch(response.headers.get("content-range", ""))
        if found is None or int(found[1]) != sink.size_bytes or sink.origin.size_bytes not in {None, int(found[1])}:
            raise _MismatchError
        told(sink.size_bytes, sink.size_bytes)
        return
    if not response.is_success:
        raise FetchError(f"{shown(response.url)}: {response.status_code} {response.reason_phrase}".rstrip())
    if response.status_code == _PARTIAL:
        _check_rest(response.headers, sink, is_asked=is_rest)
    else:
        sink.begin(_origin(response.headers, sink.origin.source))
    size_bytes = sink.origin.size_bytes
    if size_bytes is not None:
        _check_size(size_bytes, None, max_bytes)
        sink.expect(size_bytes - sink.size_bytes)
    told(sink.size_bytes, size_bytes)
    async for part in response.aiter_raw():
        _check_size(sink.size_bytes + len(part), size_bytes, max_bytes)
        sink.write(part)
        told(sink.size_bytes, size_bytes)
    if size_bytes is not None and sink.size_bytes != size_bytes:
        # h11 has counted what this answer said of itself; this is of the whole.
        raise httpx2.RemoteProtocolError(f"{sink.size_bytes} bytes came of {size_bytes}")


def _check_size(size_bytes: int, said_bytes: int | None, max_bytes: int | None) -> None:
    """Look whether there may be so much of it.

    Raises:
        TooLargeError: there may not.
    """
    if max_bytes is not None and size_bytes > max_bytes:
        raise TooLargeError(f"there are at least {size_bytes} bytes of it, and {max_bytes} are taken at most")
    if said_bytes is not None and size_bytes > said_bytes:
        raise TooLargeError(f"more of it comes than the {said_bytes} bytes that there should be")


def _check_rest(headers: Mapping[str, str], sink: Sink, *, is_asked: bool) -> None:
    """Look whether what comes is the rest of the part.

    Raises:
        _MismatchError: it is not.
        FetchError: it is a part although none was asked for.
    """
    if not is_asked:
        raise FetchError("the server sends a part of it, which was not asked for")
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    if found is None or int(found[1]) != sink.size_bytes:
        raise _MismatchError
    known, said = sink.origin.size_bytes, None if found[3] == "*" else int(found[3])
    if None not in {known, said} and known != said:
        raise _MismatchError
    if said is not None and int(found[2]) != said - 1:
        raise _MismatchError
    if _version(headers) not in {"", sink.origin.version}:
        raise _MismatchError


def _origin(headers: Mapping[str, str], source: str) -> Origin:
    """What an answer with the whole says of it."""
    length = headers.get("content-length", "")
    return Origin(source=source, version=_version(headers), size_bytes=int(length) if length.isdecimal() else None)


def _version(headers: Mapping[str, str]) -> str:
    """What is said by which it can be told later that nothing has changed; empty if nothing is."""
    tag = headers.get("etag", "")
    if tag:
        return tag if tag.startswith('"') else ""
    changed, said = _date(headers, "last-modified"), _date(headers, "date")
    if changed is None or said is None or said - changed < _SETTLED:
        return ""
    return headers["last-modified"]


def _date(headers: Mapping[str, str], name: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(headers.get(name, ""))
    except ValueError:
        return None
    return date if date.tzinfo is not None else None


def _broken(error: Exception, sink: Sink) -> str:
    """What to say of a connection that is not to be had, or broke again and again."""
    why = str(error) or reason_of(error)
    if not sink.size_bytes:
        return why
    of = f" of {sink.origin.size_bytes}" if sink.origin.size_bytes is not None else ""
    return f"it broke off after {sink.size_bytes}{of} bytes: {why}"
