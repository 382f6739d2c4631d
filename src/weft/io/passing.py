"""Passing one descriptor from a process that has the rights to open it to one that has not.

The giver listens on a Unix socket of mode 0600 in a directory of mode 0700, both of which belong to the taker, tells
the taker the path by other means, and gives the descriptor to the process that it expects and to no other. The taker
takes one descriptor from root or from its own user, and nothing else.

Source: unix(7), SCM_RIGHTS and SO_PEERCRED; seed 003, `/v0/fc00/start?…&socket=…`.
Not done here: what the descriptor is (tun.py).
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Final, Self

from weft.errors import TransportError, UsageError

PATIENCE_S: Final = 10.0
_CREDENTIALS = Struct("=iII")
_GREETING = b"\0"
_NAME = "tun"


class Giver:
    """A place where one process can fetch one descriptor; a context manager that leaves nothing behind.

    Args:
        beside: a directory that both see.
        pid: of the taker.

    Attributes:
        path: of the socket.

    Raises:
        OSError: there is no such process, or the place can't be made.
    """

    def __init__(self, beside: Path, pid: int) -> None:
        self._pid = pid
        user = _user_of(pid)
        self._directory = beside / f".pass-{secrets.token_hex(6)}"
        self.path = self._directory / _NAME
        self._directory.mkdir(mode=0o700)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inside = -1
        try:
            # By descriptor to the end, for whoever owns `beside` could put something else in its place.
            self._inside = _open_own(self._directory)
            self._socket.bind(f"/proc/self/fd/{self._inside}/{_NAME}")
            os.chmod(_NAME, 0o600, dir_fd=self._inside)
            if user != os.geteuid():
                os.chown(_NAME, user, -1, dir_fd=self._inside, follow_symlinks=False)
                os.fchown(self._inside, user, -1)
            self._socket.listen(1)
            self._socket.settimeout(PATIENCE_S)
        except BaseException:
            self.close()
            raise

    def give(self, descriptor: int) -> None:
        """Wait for the taker, and give it the descriptor; this side keeps its own.

        Raises:
            TransportError: another process came, or none in time.
        """
        try:
            taker, _ = self._socket.accept()
            with taker:
                pid, _ = _peer_of(taker)
                if pid != self._pid:
                    raise TransportError(f"process {pid} came for the interface in place of the daemon {self._pid}")
                socket.send_fds(taker, [_GREETING], [descriptor])
        except OSError as error:
            raise TransportError(f"the daemon did not come for the interface: {error.strerror or error}") from error

    def close(self) -> None:
        """Take the place away; whoever waits in `give` stops waiting."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        inside, self._inside = self._inside, -1
        if inside >= 0:
            with suppress(OSError):
                os.unlink(_NAME, dir_fd=inside)
            os.close(inside)
        with suppress(OSError):
            self._directory.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def take(path: str) -> int:
    """Fetch the descriptor that is given at a path; waits at most `PATIENCE_S`.

    Raises:
        UsageError: nobody gives anything there, somebody does who is neither root nor this user, or it is not one
            descriptor.
    """
    descriptors: list[int] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as giver:
            giver.settimeout(PATIENCE_S)
            giver.connect(path)
            _, user = _peer_of(giver)
            if user not in {0, os.geteuid()}:
                raise UsageError(f"{path}: user {user} listens there, and only root or the daemon's own may")
            said, descriptors, flags, _ = socket.recv_fds(giver, len(_GREETING), 1)
    except OSError as error:
        raise UsageError(f"{path}: no descriptor came from there: {error.strerror or error}") from error
    if said != _GREETING or len(descriptors) != 1 or flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            os.close(descriptor)
        raise UsageError(f"{path}: what came from there is not one descriptor")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _open_own(directory: Path) -> int:
    """Open the directory that was just made, and nothing that somebody has put in its place since."""
    inside = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    status = os.fstat(inside)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or os.listdir(inside):
        os.close(inside)
        raise PermissionError(errno.EPERM, "somebody has put another directory there", os.fspath(directory))
    return inside


def _peer_of(connected: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel noted them."""
    answer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(answer)
    return pid, user


def _user_of(pid: int) -> int:
    # Not the owner of the directory: the daemon's memory is closed, and so /proc/PID belongs to root.
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[2] for line in lines if line.startswith("Uid:")))
