"""An SSH server for peers: shells, commands and files for those who are allowed, with no password and no key file.

A peer is known by the address that it comes from. In the network, packets from an address come from whoever has the key
that the address belongs to: nobody else can complete a handshake of TCP from there.

| who             | what they get                                                          |
|-----------------|------------------------------------------------------------------------|
| an allowed peer | without a root folder: shell, commands and files of the one who serves |
|                 | with one: SFTP in that folder, and nothing else (sftp_folder.py)       |
| anybody else    | one line that says so, when they want to log in                        |

The name of the user that a client gives is not looked at: everything is done as the one who runs the server. Forwarding
of ports, of the agent and of X11 is refused.

Sources: RFC 4252 section 5.2 (method none); RFC 4254 section 6.
Not done here: processes (ssh_child.py); who is allowed, which the caller says.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any, Final

import asyncssh

from weft.clients.network import Network
from weft.clients.sftp_folder import FolderServer
from weft.clients.ssh import KEEPALIVE_S, VERSION, Tunnel
from weft.clients.ssh_child import Child, environment_of
from weft.io.durable import create_file, read_private

KEY_FILE: Final = "ssh_host_ed25519_key"
"""Of the host key, in the node's directory."""
CONNECTIONS: Final = 64
"""At a time."""
SESSIONS: Final = 10
"""Shells, commands and SFTP of one connection at a time; what OpenSSH allows, too."""
LOGIN_S: Final = 30
GIVEN_BYTES: Final = 65_536

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
        for connection in list(self._connections):
            connection.close()

    async def wait_closed(self) -> None:
        """Return when everything has ended, processes too."""
        if self._acceptor is not None:
            await self._acceptor.wait_closed()
        for connection in list(self._connections):
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

    def enter(self, connection: asyncssh.SSHServerConnection) -> bool:
        """Whether there is room for a connection; it counts then until `leave`."""
        if len(self._connections) >= CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: asyncssh.SSHServerConnection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

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
        self._has_room = False
        self._is_in = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._address = str(conn.get_extra_info("peername")[0])
        self._has_room = self._server.enter(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.leave(self._connection)
        if self._is_in:
            self._server.say(f"{self._address} has left")

    def begin_auth(self, username: str) -> bool:
        if not self._has_room:
            raise asyncssh.DisconnectError(asyncssh.DISC_TOO_MANY_CONNECTIONS, "Too many connections")
        if not self._server.is_allowed(self._address):
            self._server.say(f"{self._address} is refused: it is no peer that is allowed")
            raise asyncssh.PermissionDenied(f"Peer {self._address} is not allowed to log in here")
        self._is_in = True
        self._server.say(f"{self._address} has come in")
        # Nothing more to prove: see the head of this file.
        return False

    def session_requested(self) -> Any:
        if self._sessions >= SESSIONS:
            return False
        root = self._server.root
        return _Process(self, self._server, lambda channel: _Files(channel) if root is None else _Folder(channel, root))

    def begin_session(self) -> None:
        self._sessions += 1

    def end_session(self) -> None:
        self._sessions -= 1


class _Files(asyncssh.SFTPServer):
    """SFTP everywhere; its end is a success, as scp(1) wants to hear."""

    def exit(self) -> None:
        with suppress(OSError):
            self.channel.exit(0)


class _Folder(FolderServer):
    """SFTP in a folder, likewise."""

    def exit(self) -> None:
        super().exit()
        with suppress(OSError):
            self.channel.exit(0)


class _Process(asyncssh.SSHServerProcess[bytes]):
    """One shell, command or SFTP; counted as long as it is there."""

    def __init__(self, door: _Doorkeeper, server: SshServer, sftp: Any) -> None:
        super().__init__(self._begin, sftp, 3, False)
        self._door, self._server = door, server
        self._has_shells = server.root is None
        self._child: Child | None = None

    def connection_made(self, chan: Any) -> None:
        super().connection_made(chan)
        self._door.begin_session()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._door.end_session()

    # What may be asked for.

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        return self._has_shells

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    # What reaches the process at once, before what it has not read yet.

    def signal_received(self, signal: str) -> None:
        if self._child is not None:
            self._child.send_signal(signal)

    def break_received(self, msec: int) -> bool:
        self.signal_received("INT")
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._child is not None:
            self._child.resize((width, height, pixwidth, pixheight))

    # The process.

    def _begin(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if not self._has_shells:
            self.stderr.write(b"weft: only SFTP is served here\n")
            self.exit(1)
            return
        # A task of asyncssh's would be cancelled with the connection, and the process would be left.
        self._server.follow(asyncio.get_running_loop().create_task(self._run()))

    async def _run(self) -> None:
        own, peer = self.get_extra_info("sockname"), self.get_extra_info("peername")
        given = {_text(name): _text(value) for name, value in self.env.items()}
        environment = environment_of(given, term=self.term_type, peer=peer[:2], own=own[:2])
        try:
            child = await Child.start(self.command, environment, self.term_size if self.term_type else None)
        except OSError as error:
            self.stderr.write(f"weft: {environment['SHELL']}: {error.strerror}\n".encode())
            self.exit(255)
            return
        self._child = child
        gone = asyncio.ensure_future(self.channel.wait_closed())
        giving = asyncio.ensure_future(self._give(child))
        ended = asyncio.ensure_future(self._take(child))
        try:
            await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                await child.hang_up()
            else:
                self._end(ended.result())
        finally:
            for each in (gone, giving, ended):
                each.cancel()
            await asyncio.gather(gone, giving, ended, return_exceptions=True)
            child.close()

    async def _give(self, child: Child) -> None:
        """What the client sends goes to the process."""
        with suppress(asyncssh.Error, OSError):
            while data := await self.stdin.read(GIVEN_BYTES):
                await child.write(data)
            await child.write_end()

    async def _take(self, child: Child) -> int:
        """What the process writes goes to the client; its exit code."""

        async def carry(read: Callable[[], Awaitable[bytes]], writer: asyncssh.SSHWriter[bytes]) -> None:
            with suppress(asyncssh.Error, OSError):
                while data := await read():
                    writer.write(data)
                    await writer.drain()

        code, _, _ = await asyncio.gather(
            child.wait(), carry(child.read, self.stdout), carry(child.read_errors, self.stderr)
        )
        return code

    def _end(self, code: int) -> None:
        if code < 0:
            self.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            self.exit(code)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
