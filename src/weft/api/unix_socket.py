"""The Unix socket on which a daemon listens.

Its file is the sign that a daemon lives here: it appears before anything else is started, and goes when everything else
has ended.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Self

from weft.errors import UsageError

FILE_NAME = "api.sock"

_BACKLOG = 128


class ApiSocket:
    """A listening Unix socket of mode 0600, whose file is removed on `close`.

    Clients may connect from the moment that it exists; they wait until the server begins to answer.

    Args:
        path: where the file is made. One that a dead daemon left is replaced.
        passed: listens already, and is used in place of a new one; its file stays.

    Raises:
        UsageError: another daemon listens there, something else lies there, or the path can't be that of a socket.
    """

    def __init__(self, path: Path, passed: socket.socket | None = None) -> None:
        self.path = path
        self._file: tuple[int, int] | None = None
        if passed is not None:
            self.path = Path(os.fsdecode(passed.getsockname()))
            self.socket = passed
            return
        _remove_stale(path)
        self.socket = _unix_socket()
        try:
            self.socket.bind(os.fspath(path))
            # Between the two calls nobody can connect yet: a bound socket refuses until it listens.
            path.chmod(0o600)
            self._file = _file_of(path)
            self.socket.listen(_BACKLOG)
        except OSError as error:
            self.socket.close()
            raise _explain(error, path) from error
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and remove the file, unless another daemon has put its own there since."""
        self.socket.close()
        if self._file is None:
            return
        try:
            if _file_of(self.path) == self._file:
                self.path.unlink()
        except FileNotFoundError:
            pass


def _file_of(path: Path) -> tuple[int, int]:
    # The inode alone won't do: that of a removed file is soon given to the next one.
    status = path.stat()
    return status.st_ino, status.st_ctime_ns


def _unix_socket() -> socket.socket:
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise UsageError("this system has no Unix sockets, on which the daemon listens")
    return socket.socket(family, socket.SOCK_STREAM)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _explain(error, path) from error
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path}: there is a file that is no socket; remove it or choose another with --socket")
    with _unix_socket() as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            # A full backlog or no permission: something is alive there, whatever else is wrong.
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EPERM) and not isinstance(error, TimeoutError):
                raise _explain(error, path) from error
    raise UsageError(f"{path}: another daemon listens there; end it with `weft down`, or use another --dir")


def _explain(error: OSError, path: Path) -> UsageError:
    if error.errno is None:
        return UsageError(f"{path}: too long for a Unix socket; give a shorter one with --socket")
    return UsageError(f"{path}: can't listen there: {error.strerror}")
