"""A connection as `socket.socket` has it.

| as the kernel's                                       | otherwise                                                    |
|-------------------------------------------------------|--------------------------------------------------------------|
| `recv`, `recv_into`, `send`, `sendall`, `makefile`    | no flags                                                     |
| `settimeout` and its like; the exceptions             | `sendall` and TLS have the time-out for all that they do     |
| `shutdown`, `close`; files keep it open               | `close` in another thread wakes who waits                    |
| `getsockopt`, `setsockopt`                            | of those options that there are (api/streams/tcp_options.py) |
|                                                       | no descriptor: `fileno` raises, so `select` can't watch it   |
|                                                       | TLS by `start_tls`, not by `SSLContext.wrap_socket`          |

One thread may read while another writes.

Source: `socket.socket`, `ssl.SSLSocket`.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from typing import Any, Self

from weft.api.streams.tls import start_tls
from weft.blocking.face import DEFAULT, Address, Face, within
from weft.blocking.file import open_file
from weft.blocking.pipe import Data, Pipe


class Stream(Face):
    """One connection.

    Args:
        pipe: is connected.
        timeout: of `Face`.
    """

    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, pipe: Pipe, timeout: object = DEFAULT) -> None:
        super().__init__(pipe, timeout)
        self._pipe = pipe
        self._io_refs = 0
        self._is_close_wanted = False

    @property
    def peer(self) -> Any:
        """The participant at the other end, as the node knows it; None for others, and of sockets of the kernel."""
        return self._pipe.peer

    @property
    def is_readable(self) -> bool:
        """Whether `recv` would not wait, as `select` tells it of a descriptor."""
        return self._pipe.is_readable

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Take what came, up to `bufsize` bytes; nothing, if no more comes.

        Raises:
            OSError: `TimeoutError`, `BlockingIOError`, `ConnectionResetError` and so on.
        """
        _refuse_flags(flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        return self._pipe.read(bufsize, self._timeout)

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> int:
        """As `recv`, into a buffer; returns how many bytes."""
        _refuse_flags(flags)
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        with memoryview(buffer) as given, given.cast("B") as room:
            if nbytes > len(room):
                raise ValueError("buffer too small for requested bytes")
            return self._pipe.read_into(room[: nbytes or len(room)], self._timeout)

    def send(self, data: Data, flags: int = 0) -> int:
        """Take from some data what there is room for; returns how many bytes.

        Raises:
            OSError: `TimeoutError`, `BlockingIOError`, `BrokenPipeError` and so on.
        """
        _refuse_flags(flags)
        if self._timeout is None:
            # The kernel takes all of it then.
            self.sendall(data)
            return memoryview(data).nbytes
        return self._pipe.write(_bytes_of(data), self._timeout)

    def sendall(self, data: Data, flags: int = 0) -> None:
        """Send all of it, within the time-out."""
        _refuse_flags(flags)
        data = _bytes_of(data)
        size, timeout = len(data), self._timeout
        until = time.monotonic() + timeout if timeout else None
        sent = self._pipe.write(data, timeout)
        if sent == size:
            return
        with memoryview(data) as view:
            while sent < size:
                if until is not None and (timeout := until - time.monotonic()) <= 0:
                    raise TimeoutError("timed out")
                sent += self._pipe.write(view[sent:], timeout)

    def makefile(self, mode: str = "r", buffering: int | None = None, **options: str | None) -> Any:
        """A file over it; see `socket.socket.makefile`. It has no descriptor either."""
        return open_file(self, mode, buffering, **options)

    def keep_open(self) -> None:
        """A file was made."""
        self._io_refs += 1

    def _decref_socketios(self) -> None:
        # The standard library's file calls it by this name when it is closed.
        self._io_refs -= 1
        if self._is_close_wanted:
            self.close()

    def close(self) -> None:
        """End it, once its files are closed; what was written is still sent, and whoever waits for it gets EBADF."""
        self._is_close_wanted = True
        if self._io_refs <= 0:
            super().close()

    def shutdown(self, how: int) -> None:
        """End one direction, `SHUT_RD` or `SHUT_WR`, or both.

        Raises:
            OSError: ENOTCONN, the connection is lost; EOPNOTSUPP, TLS does not end one direction.
        """
        if how not in {socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR}:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._pipe.check_open()
        if how != socket.SHUT_RD:
            self._pipe.end_writing()
        if how != socket.SHUT_WR:
            self._pipe.end_reading()

    def getpeername(self) -> Address:
        """The other end.

        Raises:
            OSError: EBADF, it is closed.
        """
        self._pipe.check_open()
        return self._pipe.addresses[1]  # type: ignore[no-any-return]

    def getsockopt(self, level: int, name: int, size: int = 0) -> int | bytes:
        """The value of an option.

        Raises:
            OSError: there is no such.
        """
        return self._option("getsockopt", level, name, *([size] if size else []))  # type: ignore[no-any-return]

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """Set an option, such as TCP_NODELAY (on at first) or SO_KEEPALIVE.

        Raises:
            OSError: there is no such, or it can't have that value.
        """
        self._option("setsockopt", level, name, value)

    # TLS.

    def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool = False, server_hostname: str | None = None
    ) -> Self:
        """Go on with TLS.

        Args:
            context: of either side.
            server_side: whether this is the server's.
            server_hostname: whose certificate a client expects.

        Returns:
            This stream.

        Raises:
            OSError: `ssl.SSLError`, `TimeoutError` and so on; the connection is closed then.
        """
        pipe, timeout = self._pipe, self._timeout or None

        async def go_on() -> None:
            async with within(timeout):
                # Not the loop's own, which would not take what was read ahead.
                pipe.go_on(
                    await start_tls(
                        pipe.transport, pipe, context, server_side=server_side, server_hostname=server_hostname
                    )
                )

        try:
            pipe.wait_written(timeout)
            pipe.background.call(go_on)
        except BaseException:
            self.close()
            raise
        return self

    def getpeercert(self, binary_form: bool = False) -> Any:
        """What the certificate of the other side says, or in DER; None without TLS or a certificate."""
        return self._of_tls("getpeercert", binary_form)

    def version(self) -> str | None:
        """Of TLS, such as `TLSv1.3`; None without it."""
        return self._of_tls("version")  # type: ignore[no-any-return]

    def cipher(self) -> tuple[str, str, int] | None:
        """The suite, its version and its bits; None without TLS."""
        return self._of_tls("cipher")  # type: ignore[no-any-return]

    def selected_alpn_protocol(self) -> str | None:
        """What was agreed on by ALPN; None if nothing was."""
        return self._of_tls("selected_alpn_protocol")  # type: ignore[no-any-return]

    def _of_tls(self, method: str, *arguments: object) -> Any:
        pipe = self._pipe

        async def ask() -> Any:
            tls = pipe.transport.get_extra_info("ssl_object")
            return None if tls is None else getattr(tls, method)(*arguments)

        return pipe.background.call(ask)

    def _option(self, method: str, *arguments: object) -> Any:
        pipe = self._pipe
        pipe.check_open()

        async def ask() -> Any:
            return getattr(pipe.transport.get_extra_info("socket"), method)(*arguments)

        return pipe.background.call(ask)

    def _sockname(self) -> Address:
        return self._pipe.addresses[0]  # type: ignore[no-any-return]


def _bytes_of(data: Data) -> Data:
    """Data as bytes, whatever its items are."""
    return data if type(data) is bytes else memoryview(data).cast("B")


def _refuse_flags(flags: int) -> None:
    if flags:
        raise OSError(errno.EOPNOTSUPP, "there are no flags for a socket of the network")
