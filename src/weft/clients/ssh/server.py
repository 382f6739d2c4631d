"""An SSH server for peers: shells, commands and files for those who are allowed, with no password and no key file.

A peer is known by the address that it comes from. In the network, packets from an address come from whoever has the key
that the address belongs to: nobody else can complete a handshake of TCP from there.

| who             | what they get                                                          |
|-----------------|------------------------------------------------------------------------|
| an allowed peer | without a root folder: shell, commands and files of the one who serves |
|                 | with one: SFTP in that folder, and nothing else (sftp/folder.py)       |
| anybody else    | one line that says so, when they want to log in                        |

The name of the user that a client gives is not looked at: everything is done as the one who runs the server. Forwarding
of ports, of the agent and of X11 is refused.

Source: RFC 4252 section 5.2 (method none).
Not done here: shells, commands and SFTP (session.py); who is allowed, which the caller says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any, Final

import asyncssh

from weft.clients.network import Network
from weft.clients.sftp.folder import FolderServer
from weft.clients.ssh.client import KEEPALIVE_S, VERSION, Tunnel
from weft.clients.ssh.session import served_session
from weft.io.durable import create_file, read_private

KEY_FILE: Final = "ssh_host_ed25519_key"
"""Of the host key, in the node's directory."""
CONNECTIONS: Final = 64
"""Of those who are allowed, at a time."""
REFUSALS: Final = 16
"""Connections at a time of those who are not, or are too many, until they have been told so."""
SESSIONS: Final = 10
"""Shells, commands and SFTP of one connection at a time; what OpenSSH allows, too."""
LOGIN_S: Final = 30

Told = Callable[[str], None]


def host_key(directory: Path) -> asyncssh.SSHKey:
    """The key of this host, kept in a directory and made if there is none.

    Raises:
        ConfigError: it can't be read or written, or others can read it.
    """
    path = directory / KEY_FILE
    with suppress(FileExistsError):
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            create_file(path, key.export_private_key("openssh"))
    return asyncssh.import_private_key(read_private(path))


class SshServer:
    """Takes connections until `close`; `serve_ssh` makes it."""

    def __init__(
        self, allowed: Sequence[IPv4Network | IPv6Network], root: Path | None = None, told: Told | None = None
    ) -> None:
        self._allowed = tuple(allowed)
        self.root = root
        self._told = told
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._refused: set[asyncssh.SSHServerConnection] = set()
        self._processes: set[asyncio.Task[Any]] = set()

    async def listen(self, network: Network, port: int, host: Any, key: asyncssh.SSHKey) -> None:
        """Begin.

        Raises:
            OSError: the port can't be had.
        """
        self._acceptor = await asyncssh.listen(
            "",
            port,
            tunnel=Tunnel(network, host),
            config=None,
            server_host_keys=[key],
            server_version=VERSION,
            server_factory=lambda: _Doorkeeper(self),
            compression_algs=None,
            encoding=None,
            line_editor=False,
            agent_forwarding=False,
            x11_forwarding=False,
            login_timeout=LOGIN_S,
            keepalive_interval=KEEPALIVE_S,
        )

    @property
    def port(self) -> int:
        """That it listens on."""
        assert self._acceptor is not None
        return int(self._acceptor.get_port())

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in (*self._connections, *self._refused):
            connection.close()

    async def wait_closed(self) -> None:
        """Return when everything has ended, processes too."""
        if self._acceptor is not None:
            await self._acceptor.wait_closed()
        for connection in (*self._connections, *self._refused):
            await connection.wait_closed()
        if self._processes:
            await asyncio.wait(self._processes)

    def is_allowed(self, address: str) -> bool:
        """Whether who comes from there may come in."""
        found = ip_address(address.partition("%")[0])
        return any(found in network for network in self._allowed)

    def say(self, text: str) -> None:
        """Tell the one who serves."""
        if self._told is not None:
            self._told(text)

    def enter(self, connection: asyncssh.SSHServerConnection, *, is_allowed: bool) -> bool:
        """Whether there is room for a connection; it counts until `leave`."""
        if is_allowed and len(self._connections) < CONNECTIONS:
            self._connections.add(connection)
            return True
        if len(self._refused) < REFUSALS:
            self._refused.add(connection)
        else:
            connection.abort()
        return False

    def leave(self, connection: asyncssh.SSHServerConnection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._refused.discard(connection)

    def follow(self, task: asyncio.Task[Any]) -> None:
        """A process has begun, which the end of the server has to wait for."""
        self._processes.add(task)
        task.add_done_callback(self._processes.discard)


async def serve_ssh(
    network: Network,
    allowed: Sequence[IPv4Network | IPv6Network],
    *,
    key: asyncssh.SSHKey,
    port: int = 22,
    host: Any = None,
    root: Path | None = None,
    told: Told | None = None,
) -> SshServer:
    """Start a server.

    Args:
        network: where.
        allowed: where those who may come in come from.
        key: of this host.
        port: TCP; 0 for a free one.
        host: where it listens; None for all addresses that this node has in the network.
        root: folder that they get; None for shells and all files.
        told: is told in a line who comes and who is refused.

    Raises:
        OSError: the port can't be had, or there is no such folder.
    """
    if root is not None:
        FolderServer.check(root)
    server = SshServer(allowed, root, told)
    await server.listen(network, port, host, key)
    return server


class _Doorkeeper(asyncssh.SSHServer):
    """Lets one connection in, or not."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._connection: Any = None
        self._address = ""
        self._sessions = 0
        self._is_allowed = False
        self._has_room = False
        self._is_in = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._address = str(conn.get_extra_info("peername")[0])
        self._is_allowed = self._server.is_allowed(self._address)
        self._has_room = self._server.enter(conn, is_allowed=self._is_allowed)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.leave(self._connection)
        if self._is_in:
            self._server.say(f"{self._address} has left")

    def begin_auth(self, username: str) -> bool:
        if not self._is_allowed:
            self._server.say(f"{self._address} is refused: it is no peer that is allowed")
            raise asyncssh.PermissionDenied(f"Peer {self._address} is not allowed to log in here")
        if not self._has_room:
            raise asyncssh.DisconnectError(asyncssh.DISC_TOO_MANY_CONNECTIONS, "Too many connections")
        self._is_in = True
        self._server.say(f"{self._address} has come in")
        # Nothing more to prove: see the head of this file.
        return False

    def session_requested(self) -> Any:
        if self._sessions >= SESSIONS:
            return False
        return served_session(self._server.root, self._count, self._server.follow)

    def _count(self, more: int) -> None:
        self._sessions += more
