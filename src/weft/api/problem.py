"""Errors as problem documents (RFC 9457), and back.

Both sides use one table: the server looks up what was raised, the client raises what the document names, so that a
program sees the same classes on both sides of the socket.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from weft.errors import (
    Broken,
    Closed,
    ConfigError,
    DecodeError,
    PeerError,
    TransportError,
    UsageError,
    WeftError,
)

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:weft:problem:"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The document that goes with every status of 400 and above (RFC 9457, section 3.1)."""

    type: str
    """What kind of problem it is: `urn:weft:problem:usage`; `about:blank` where the status says it all."""
    title: str
    status: int
    detail: str
    """One line for a person: what is wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: what is raised, how it is called, and what the client raises for it."""

    raised: type[Exception]
    name: str
    title: str
    status: int
    raises: type[Exception]


# The first row whose class matches is taken, so subclasses come before their bases.
KINDS: tuple[Kind, ...] = (
    Kind(DecodeError, "format", "What was given does not have the format it must have", 400, UsageError),
    Kind(UsageError, "usage", "The request breaks a rule", 400, UsageError),
    Kind(ConfigError, "config", "A file of the node can't be used", 409, ConfigError),
    Kind(PeerError, "peer", "The other side made it fail", 502, PeerError),
    Kind(Closed, "closed", "The node has closed what this needs", 503, Closed),
    Kind(Broken, "broken", "What carries the bytes failed", 503, Broken),
    Kind(TransportError, "transport", "What carries the bytes failed", 503, TransportError),
    Kind(TimeoutError, "timeout", "The other side did not answer in time", 504, TimeoutError),
    Kind(PermissionError, "permission", "The system refuses it to this process", 403, PermissionError),
    Kind(WeftError, "failed", "The operation failed", 500, WeftError),
)

_BY_TYPE = {TYPE_PREFIX + kind.name: kind for kind in KINDS}


def problem_of(error: Exception) -> Problem | None:
    """The document for an error, or None if it is none that a node raises on purpose."""
    for kind in KINDS:
        if isinstance(error, kind.raised):
            return Problem(
                type=TYPE_PREFIX + kind.name,
                title=kind.title,
                status=kind.status,
                detail=_one_line(error) or kind.title,
            )
    return None


def error_of(problem: Problem) -> Exception:
    """The error that a document stands for.

    A document without a kind is about the request as such, or comes from a node with a newer table than ours; then the
    status says whose fault it is.
    """
    kind = _BY_TYPE.get(problem.type)
    if kind is None:
        return (UsageError if 400 <= problem.status < 500 else WeftError)(problem.detail)
    return kind.raises(problem.detail)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error)
    return " ".join(text.split())
