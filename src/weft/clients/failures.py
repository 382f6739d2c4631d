"""Why a connection failed, in one line for people.

| what was raised                    | in words                                          |
|------------------------------------|---------------------------------------------------|
| `ssl.SSLCertVerificationError`     | what OpenSSL says of the certificate              |
| `ssl.SSLError` of an alert         | that the other side refused, and its reason       |
| `ssl.SSLError` otherwise           | OpenSSL's reason; there may be no TLS at all      |
| `OSError` with a number            | the system's words for the number                 |
| `OSError` of several attempts      | the same for each                                 |
| a time-out                         | no answer                                         |
| any other                          | its own words, or its kind                        |

An error that has none of its own words passes on those of what caused it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from typing import Final

_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
_ENDED: Final = frozenset({"UNEXPECTED_EOF_WHILE_READING"})
_ALERT: Final = "ALERT_"
_NUMBER: Final = re.compile(r"\[Errno (\d+)\]")
"""asyncio writes these into the one error that it raises for several."""


def reason_of(error: BaseException) -> str:
    """Why something failed."""
    root = _root(error)
    match root:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {root.verify_message or root.reason}".rstrip(".")
        case ssl.SSLError():
            return _of_tls(root)
        case socket.gaierror():
            return (root.strerror or "there is no such name").lower()
        case TimeoutError() if root.errno in {None, errno.ETIMEDOUT}:
            return "no answer"
        case OSError(errno=number) if number is not None:
            return os.strerror(number).lower()
        case OSError() if numbers := dict.fromkeys(_NUMBER.findall(str(root))):
            return ", ".join(os.strerror(int(number)).lower() for number in numbers)
        case _:
            return str(root) or type(root).__name__


def _root(error: BaseException) -> BaseException:
    """The first cause that came from the system, or else what was raised."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def _of_tls(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in _NO_TLS:
        return "what answers there does not speak TLS"
    if reason in _ENDED:
        return "the other side ended the connection in the middle of it"
    words = reason.replace("_", " ").lower() or (error.strerror or str(error))
    if _ALERT in reason:
        return f"the other side refused: {words.partition('alert ')[2]}"
    return f"TLS failed: {words}"
