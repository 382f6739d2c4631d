"""The socket on which `wg` talks to this node: there while the interface is up, and named after it.

It is what `wg` looks for: `/var/run/wireguard/NAME.sock`, for root alone, because it gives the private key away. Where
it can't be made, the node goes on without.

Source: https://www.wireguard.com/xplatform/, "Configuration Protocol".
Not done here: the text (uapi.py), and what a change does (engine/verbs/wireguard.py).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import traceback
from pathlib import Path
from typing import Final

from weft.api.facade import Facade
from weft.api.uapi import MAX_REQUEST_BYTES, decode_request, encode_device, encode_errno
from weft.api.unix_socket import ApiSocket
from weft.engine.device import ChangeRefusedError
from weft.errors import DecodeError, UsageError, WeftError

DIRECTORY: Final = "/var/run/wireguard"
MAX_CLIENTS: Final = 16
PATIENCE_S: Final = 10.0
"""How long a client may take for a request, or for reading a reply."""

_CHUNK_BYTES = 64 * 1024
_NOT_ROOT = {errno.EACCES, errno.EPERM, errno.EROFS}
"""What a daemon with few rights gets, as that of the systemd unit: who set it up knows, and `weft show` is there."""

log = logging.getLogger(__name__)

_ERRNO: tuple[tuple[type[Exception], int], ...] = (
    (DecodeError, errno.EINVAL),
    (UsageError, errno.EINVAL),
    (PermissionError, errno.EPERM),
    (Exception, errno.EIO),
)
"""What `wg` is told of an error that does not say it by itself; the first row that matches counts."""


class UapiServer:
    """Serves `wg` for as long as `run` runs.

    Args:
        node: whose interface it is.
        directory: of the sockets of all WireGuard interfaces; `DIRECTORY` by default.
        patience_s: how long a client may stall.
    """

    def __init__(self, node: Facade, directory: Path | None = None, *, patience_s: float = PATIENCE_S) -> None:
        self._node = node
        self._directory = directory or Path(DIRECTORY)
        self._patience_s = patience_s
        self._ifname: str | None = None
        self._socket: ApiSocket | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Have a socket while the interface is up, until cancelled."""
        try:
            await self._follow()
            async for _ in self._node.events(frozenset({"interface-up", "interface-down"})):
                await self._follow()
        finally:
            await self._close()

    async def _follow(self) -> None:
        # What changed while this waited is seen at once, and what changes after the last look is an event.
        while (ifname := self._node.fc00.status().ifname) != self._ifname:
            await self._close()
            self._ifname = ifname
            if ifname is not None:
                await self._open(ifname)

    async def _open(self, ifname: str) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._socket = ApiSocket(self._directory / f"{ifname}.sock")
            self._server = await asyncio.start_unix_server(self._welcome, sock=self._socket.socket)
        except (OSError, UsageError) as error:
            cause = error.__cause__ if isinstance(error, UsageError) else error
            is_usual = isinstance(cause, OSError) and cause.errno in _NOT_ROOT
            # What comes after the semicolon is advice about the socket of the API.
            reason = str(error).partition(";")[0]
            log.log(logging.INFO if is_usual else logging.WARNING, "`wg` can't see %s: %s", ifname, reason)

    async def _close(self) -> None:
        for client in self._clients:
            client.cancel()
        server, socket = self._server, self._socket
        self._ifname = self._server = self._socket = None
        if server is not None:
            server.close()
        if socket is not None:
            socket.close()
        if self._clients:
            await asyncio.wait(self._clients)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._clients) < MAX_CLIENTS:
                self._clients.add(task)
                await self._talk(reader, writer)
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer request after request, until the client goes or says what is none."""
        buffer, is_sane = bytearray(), True
        while is_sane:
            async with asyncio.timeout(self._patience_s):
                request = await _read(reader, buffer)
            if request is None:
                return
            reply, is_sane = await self._reply(request)
            writer.write(reply)
            async with asyncio.timeout(self._patience_s):
                await writer.drain()

    async def _reply(self, request: bytes) -> tuple[bytes, bool]:
        """What to answer, and whether to go on."""
        try:
            change = decode_request(request)
            if change is None:
                return encode_device(self._node.wireguard.device()) + encode_errno(0), True
            await self._node.wireguard.change(change)
        except Exception as error:
            _log(error)
            number = error.errno if isinstance(error, ChangeRefusedError) else _errno_of(error)
            return encode_errno(number), not isinstance(error, DecodeError)
        return encode_errno(0), True


async def _read(reader: asyncio.StreamReader, buffer: bytearray) -> bytes | None:
    """The next request, None at the end; what comes after it stays in the buffer."""
    searched = 0
    while (end := buffer.find(b"\n\n", searched)) < 0 and len(buffer) <= MAX_REQUEST_BYTES:
        searched = max(0, len(buffer) - 1)
        chunk = await reader.read(_CHUNK_BYTES)
        if not chunk:
            return None
        buffer += chunk
    request = bytes(buffer if end < 0 else buffer[: end + 1])
    del buffer[: end + 2 if end >= 0 else len(buffer)]
    return request


def _errno_of(error: Exception) -> int:
    return next(number for kind, number in _ERRNO if isinstance(error, kind))


def _log(error: Exception) -> None:
    if isinstance(error, (WeftError, PermissionError)):
        # `wg` shows the number alone, so this is where a person finds out.
        log.warning("what `wg` asked for was refused: %s", error)
    else:
        # The message of a foreign exception may quote a key, so only its class and the places are logged.
        places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
        log.error("what `wg` asked for failed with %s\n%s", type(error).__name__, places)
