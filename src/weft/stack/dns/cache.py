"""What servers said, for as long as they allow and we want to believe it.

An answer stands under the name that was asked for, never under another that was met in it, so no reply can plant
anything. That a name does not exist holds for addresses of both kinds.

| answer    | remembered at most |
|-----------|--------------------|
| addresses | a day              |
| NODATA    | an hour            |
| NXDOMAIN  | an hour            |
| failure   | a second           |

Sources: RFC 2308 section 5, RFC 8767 section 4 (a bound for TTLs), RFC 9520 section 3.2 (failures).
Not done here: old answers where no server is reached (RFC 8767).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from weft.stack.dns.message import Kind

MAX_ANSWERS = 1024
SECOND_NS = 1_000_000_000


class Outcome(Enum):
    """How a question ended; the text is for people."""

    FOUND = "addresses"
    NODATA = "the name has no such address"
    NXDOMAIN = "the name does not exist"
    SERVFAIL = "no server could tell"
    TIMEOUT = "no server answered"


MAX_AGE_NS = {
    Outcome.FOUND: 86_400 * SECOND_NS,
    Outcome.NODATA: 3600 * SECOND_NS,
    Outcome.NXDOMAIN: 3600 * SECOND_NS,
    Outcome.SERVFAIL: SECOND_NS,
    Outcome.TIMEOUT: SECOND_NS,
}


class Answer(NamedTuple):
    """What was found out about a name."""

    outcome: Outcome
    names: tuple[str, ...]
    """The name that was asked for and the aliases from there; the last is the canonical one."""
    addresses: tuple[bytes, ...]
    """4 or 16 bytes each; none unless found."""
    expires_at: int
    """Until when it holds, monotonic ns."""


class Cache:
    """The answers of one resolver; when it is full, what was used longest ago goes."""

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        self._answers: dict[tuple[str, Kind | None], Answer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, kind: Kind, answer: Answer, now: int) -> None:
        """Remember an answer under the first of its names, if it holds for any time."""
        expires_at = min(answer.expires_at, now + MAX_AGE_NS[answer.outcome])
        if expires_at <= now:
            return
        key = answer.names[0], None if answer.outcome is Outcome.NXDOMAIN else kind
        self._answers.pop(key, None)
        if len(self._answers) >= MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = answer._replace(expires_at=expires_at)

    def get(self, name: str, kind: Kind, now: int) -> Answer | None:
        """What is known about a name, if anything."""
        for key in ((name, kind), (name, None)):
            answer = self._answers.pop(key, None)
            if answer is not None and now < answer.expires_at:
                self._answers[key] = answer
                return answer
        return None
