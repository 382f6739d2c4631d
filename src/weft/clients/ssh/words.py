"""Why something about SSH or SFTP failed, in one line for people.

| what was raised                 | in words                                               |
|---------------------------------|--------------------------------------------------------|
| an `SFTPError`                  | the server's own words                                 |
| `PermissionDenied` of this side | that no key and no password was taken                  |
| another `DisconnectError`       | the reason, be it of the server or of this side        |
| a lost connection               | that it broke off                                      |
| a channel that is refused       | the server's reason                                    |
| a packet that is none           | that the other side does not speak SSH as one has to   |
| anything else                   | as for all connections (failures.py)                   |
"""

from __future__ import annotations

import re
from typing import Final

import asyncssh
from asyncssh.packet import PacketDecodeError

from weft.clients.failures import reason_of

_CODE: Final = re.compile(r" \(error \d+\)$")
"""What asyncssh puts behind the reason of a disconnection."""
MALFORMED: Final = (PacketDecodeError, asyncssh.KeyImportError, UnicodeDecodeError)
"""What asyncssh lets through of what it could not read."""
FAILURES: Final = (asyncssh.Error, asyncssh.ProcessError, OSError, PacketDecodeError)
"""What asyncssh raises for what can go wrong anywhere but in the program."""


def words_of(error: BaseException) -> str:
    """Why something failed."""
    match error:
        case asyncssh.ConnectionLost() | asyncssh.SFTPConnectionLost() | asyncssh.SFTPNoConnection():
            return "the connection broke off"
        case asyncssh.PermissionDenied() if error.reason.startswith("Permission denied for user"):
            return "permission denied: the server takes neither the keys nor the password there were"
        case asyncssh.DisconnectError() | asyncssh.SFTPError():
            return _as_part(error.reason) or type(error).__name__
        case asyncssh.ChannelOpenError():
            return _as_part(error.reason)
        case PacketDecodeError():
            return f"the other side does not speak SSH as one has to: {_as_part(str(error))}"
        case _:
            return reason_of(error)


def _as_part(reason: str) -> str:
    """A sentence as the end of another one."""
    text = _CODE.sub("", " ".join(reason.split())).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
