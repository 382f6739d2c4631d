"""Which bytes of a file a request of HTTP wants, if any: conditions, and one range.

| the client has                                                        | it gets                        |
|-----------------------------------------------------------------------|--------------------------------|
| this version (`If-None-Match`, else `If-Modified-Since`)               | 304                            |
| another one than it insists on (`If-Match`, else `If-Unmodified-Since`) | 412                           |
| a part of this version (`Range`, and `If-Range` if that is said)       | 206, the rest                  |
| a part that is as long as the file, or longer                          | 416                            |
| a part of another version, several ranges, or what is none             | 200, all of it                 |

`If-Range` needs what has to be strong: an entity tag, or the very date that was told.

Source: RFC 9110 sections 13.1, 13.2.2 (their order), 14.1.2, 14.2 and 14.4.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from aiohttp import web

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE | re.ASCII)
_LAST_S: Final = int(datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class Part:
    """What is answered.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        start: the first byte.
        count: how many bytes.
    """

    status: int
    start: int = 0
    count: int = 0


def tag_of(found: os.stat_result) -> str:
    """The entity tag of a version of a file, without quotes."""
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"


def date_of(found: os.stat_result) -> datetime:
    """When a file was changed last, in whole seconds; as near as a date can be, where a file system has odd ones."""
    return datetime.fromtimestamp(min(max(int(found.st_mtime), 0), _LAST_S), UTC)


def part_of(request: web.BaseRequest, found: os.stat_result) -> Part:
    """Which part of a file is wanted.

    Args:
        request: GET or HEAD.
        found: the file as it is.
    """
    tag, date, size = tag_of(found), date_of(found), found.st_size
    if (tags := request.if_match) is not None:
        if not any(each.value == "*" or (each.value == tag and not each.is_weak) for each in tags):
            return Part(412)
    elif (since := request.if_unmodified_since) is not None and date > since:
        return Part(412)
    if (tags := request.if_none_match) is not None:
        if any(each.value in {"*", tag} for each in tags):
            return Part(304)
    elif (since := request.if_modified_since) is not None and date <= since:
        return Part(304)
    matched = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if request.method != "GET" or matched is None or not _is_same(request.headers.get("If-Range"), tag, date):
        return Part(200, 0, size)
    return _ranged(matched[1], matched[2], size)


def _is_same(condition: str | None, tag: str, date: datetime) -> bool:
    return condition is None or condition.strip() in {f'"{tag}"', format_datetime(date, usegmt=True)}


def _ranged(first: str, last: str, size: int) -> Part:
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return Part(200, 0, size)
    elif last:
        start, end = max(size - int(last), 0) if int(last) else size, size
    else:
        return Part(200, 0, size)
    return Part(206, start, end - start) if start < size else Part(416)
