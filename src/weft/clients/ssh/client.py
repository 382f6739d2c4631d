"""SSH over the network: asyncssh's connections, whose TCP is a node's.

    async with node.ssh("loom", user="anna") as connection:
        print((await connection.run("uname -a", check=True)).stdout)

The host's key is always checked (hosts.py). Who logs in is proved by keys, of files and of the agent (keys.py),
then by a password. None of OpenSSH's configuration is read.

| algorithms   | offered, the best first                                                                           |
|--------------|---------------------------------------------------------------------------------------------------|
| key exchange | those of asyncssh, curve25519-sha256 among them, with strict key exchange                         |
| host key     | ssh-ed25519, ecdsa-sha2-nistp256, -384, -521, rsa-sha2-512, rsa-sha2-256, ssh-rsa                  |
| ciphers      | aes256-gcm, aes128-gcm, chacha20-poly1305, aes256-ctr, aes192-ctr, aes128-ctr                     |
| MACs         | those of asyncssh: the encrypt-then-MAC forms, hmac-sha2-256, hmac-sha1                           |
| compression  | none: a packet that unpacks to gigabytes would have to be taken                                   |

Sources: RFC 4251 to 4254; asyncssh's `tunnel` argument.
Not done here: the terminal (terminal.py), files (sftp/copy.py), the server (server.py).
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from weft.clients.network import Network
from weft.clients.ssh.hosts import SSH_PORT, KnownHosts
from weft.clients.ssh.keys import ATTEMPTS, Ask, Keys
from weft.clients.ssh.words import MALFORMED
from weft.errors import PeerError

HOST_KEYS: Final = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"),
)
"""Of a host that is not known; of one that is, those that it had."""
CIPHERS: Final = (
    *("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"),
    *("aes256-ctr", "aes192-ctr", "aes128-ctr"),
)
"""AES-GCM first: asyncssh does it in one call a packet, and ChaCha20 in several, which takes half as long again."""
KEEPALIVE_S: Final = 15.0
"""How often a silent server is asked whether it is there; after three times it is not."""
VERSION: Final = "weft"


class HostKeyError(PeerError):
    """The key of an SSH server is not the one that it had, or nobody vouches for it."""


@dataclass(frozen=True)
class NewHost:
    """An SSH server that was not seen before."""

    host: str
    """As it was typed."""
    address: str
    port: int
    key: asyncssh.SSHKey

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` shows it."""
        return str(self.key.get_fingerprint())

    @property
    def algorithm(self) -> str:
        """Such as `ssh-ed25519`."""
        return str(self.key.get_algorithm())


Trust = bool | Callable[[NewHost], Awaitable[bool]]
"""Whether a host that was not seen before is to be trusted."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who logs in, and how that is proved.

    Attributes:
        user: on the server; None for the name of the one who runs this.
        keys: files with private keys; without any, those in ~/.ssh that are there.
        agent: socket of an agent; None without one.
        password: if it is known; else `ask` is asked for it.
        ask: a person, if there is one.
        told: what the server wants to be shown before somebody logs in.
    """

    user: str | None = None
    keys: Sequence[Path] = ()
    agent: str | None = None
    password: str | None = None
    ask: Ask | None = None
    told: Callable[[str], None] | None = None


@asynccontextmanager
async def ssh_connection(
    network: Network,
    host: str,
    port: int = SSH_PORT,
    *,
    login: Login | None = None,
    hosts: KnownHosts | None = None,
    trust: Trust = False,
    **options: Any,
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection to an SSH server, until the block ends.

    Args:
        network: where.
        host: a peer, an address or a name.
        port: TCP.
        login: who logs in; None for the one who runs this, with the keys there are.
        hosts: which keys servers had; None for those in ~/.ssh/known_hosts.
        trust: whether to trust a server that was not seen before, and to know it from then on.
        **options: of `asyncssh.SSHClientConnectionOptions`, such as `compression_algs`.

    Raises:
        HostKeyError: the server is not the one that it was, or not known.
        asyncssh.Error: it refused, or broke the protocol; `ssh_words.words_of` says why in one line.
        OSError: it can't be reached.
    """
    login = Login() if login is None else login
    hosts = KnownHosts(others=(Path.home() / ".ssh" / "known_hosts",)) if hosts is None else hosts
    keys = Keys(login.keys, agent=login.agent, ask=login.ask)
    try:
        connection = await _Caller(network, host, port, login, keys, hosts, options).connect(trust)
        try:
            yield connection
        finally:
            connection.close()
            await connection.wait_closed()
    finally:
        keys.close()


@asynccontextmanager
async def ssh_of_node(
    network: Network,
    host: Any,
    port: int = SSH_PORT,
    *,
    hosts: KnownHosts,
    user: str | None = None,
    keys: Sequence[str | os.PathLike[str]] = (),
    password: str | None = None,
    trust: Trust = False,
    **options: Any,
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """What `node.ssh()` is: `ssh_connection` for a program, with the agent of the one who runs it."""
    login = Login(user=user, keys=[Path(key) for key in keys], agent=agent_path(), password=password)
    async with ssh_connection(network, host, port, login=login, hosts=hosts, trust=trust, **options) as connection:
        yield connection


def agent_path() -> str | None:
    """The agent of the one who runs this, if there is one."""
    return os.environ.get("SSH_AUTH_SOCK") or None


class Tunnel:
    """The network, as asyncssh asks for it: to it we are what it would tunnel a connection through."""

    logger = asyncssh.logging.logger

    def __init__(self, network: Network, host: Any = None) -> None:
        self._network = network
        self._host = host

    async def create_connection(
        self, session_factory: Any, host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect."""
        return await self._network.create_connection(session_factory, host, port)

    async def create_server(self, session_factory: Any, host: str, port: int) -> asyncio.AbstractServer:
        """Listen; the host is the one that was given at the beginning, since asyncssh has no word for all of them."""
        return await self._network.create_server(lambda: session_factory("", 0), self._host, port)


class _Caller:
    """Connects, once or again if the server is new."""

    def __init__(
        self,
        network: Network,
        host: str,
        port: int,
        login: Login,
        keys: Keys,
        hosts: KnownHosts,
        options: dict[str, Any],
    ) -> None:
        self._tunnel = Tunnel(network)
        self._host, self._port = host, port
        self._login, self._keys, self._hosts = login, keys, hosts
        self._options = options

    async def connect(self, trust: Trust) -> asyncssh.SSHClientConnection:
        is_new = not self._hosts.knows(self._host, "", self._port)
        look = _Look()
        # Only of a host that is not known it is for us to say which key is the best.
        connection = await (self._attempt(look, HOST_KEYS) if is_new else self._to_known(look))
        if connection is not None:
            return connection
        found = look.new
        assert found is not None
        if not self._hosts.knows(self._host, found.address, self._port):
            if not (trust if isinstance(trust, bool) else await trust(found)):
                raise HostKeyError(
                    f"{self._host} is not known, and nobody says that its key {found.algorithm} {found.fingerprint} "
                    "is right"
                )
            self._hosts.add(found.host, found.address, found.port, found.key)
        elif not is_new:
            raise self._changed(found)
        # Otherwise it is known under its address, maybe with a key of another kind.
        look = _Look()
        connection = await self._to_known(look)
        if connection is None:
            raise self._changed(look.new or found)
        return connection

    async def _to_known(self, look: _Look) -> asyncssh.SSHClientConnection | None:
        """As `_attempt`, with a host of which one key at least is known."""
        try:
            return await self._attempt(look, ())
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError):
            if look.is_verified:
                raise
        # It has none of the keys that it had, perhaps, and hung up: then it shows now which it has.
        return await self._attempt(look, HOST_KEYS)

    async def _attempt(self, look: _Look, host_keys: Sequence[str]) -> asyncssh.SSHClientConnection | None:
        """Connect; None if the host's key is not known, which is in `look` then."""
        try:
            return await self._connect(look, {"server_host_key_algs": host_keys} if host_keys else {})
        except asyncssh.HostKeyNotVerifiable:
            if look.new is None:
                raise
            return None
        except MALFORMED as error:
            raise asyncssh.ProtocolError(f"Nothing that SSH knows: {error}") from error

    async def _connect(self, look: _Look, chosen: dict[str, Any]) -> asyncssh.SSHClientConnection:
        connection: asyncssh.SSHClientConnection = await asyncssh.connect(
            self._host,
            self._port,
            tunnel=self._tunnel,
            config=None,
            username=self._login.user or getpass.getuser(),
            known_hosts=self._hosts.match,
            # Keys and passwords are what `_Client` gives, in its own order.
            client_keys=None,
            agent_path=None,
            x509_trusted_certs=None,
            client_version=VERSION,
            client_factory=lambda: _Client(self._login, self._keys, look),
            **{
                "keepalive_interval": KEEPALIVE_S,
                "compression_algs": None,
                "encryption_algs": CIPHERS,
                **chosen,
                **self._options,
            },
        )
        return connection

    def _changed(self, found: NewHost) -> HostKeyError:
        return HostKeyError(
            f"the key of {self._host} has changed, or somebody answers in its place: it shows {found.algorithm} "
            f"{found.fingerprint}; if that is right, remove its line from {self._hosts.place} or ~/.ssh/known_hosts"
        )


class _Look:
    """What was seen of a server: its key if that was refused, or that it was the right one."""

    def __init__(self) -> None:
        self.new: NewHost | None = None
        self.is_verified = False


class _Client(asyncssh.SSHClient):
    """Answers what asyncssh asks while it logs in."""

    def __init__(self, login: Login, keys: Keys, look: _Look) -> None:
        self._login, self._look = login, look
        self._batches = keys.batches()
        self._connection: Any = None
        self._user = ""
        self._attempts = 0

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self._look.new = NewHost(host, addr, port, key)
        return False

    def begin_auth(self, username: str) -> None:
        self._look.is_verified = True
        self._user = username

    def auth_banner_received(self, msg: str, lang: str) -> None:
        if self._login.told is not None:
            self._login.told(msg)

    async def public_key_auth_requested(self) -> Any:
        return await anext(self._batches, None)

    async def password_auth_requested(self) -> str | None:
        return await self._password()

    async def kbdint_auth_requested(self) -> str | None:
        return "" if self._login.password is not None or self._login.ask is not None else None

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str] | None:
        answers = []
        for prompt, _ in prompts:
            is_password = "password" in prompt.lower()
            answer = await self._password(prompt) if is_password else await self._answer(prompt)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    async def _password(self, prompt: str | None = None) -> str | None:
        self._attempts += 1
        if self._login.password is not None:
            return self._login.password if self._attempts == 1 else None
        if self._attempts > ATTEMPTS:
            return None
        if prompt is not None:
            return await self._answer(prompt)
        return await self._ask(f"Password of {self._user} on {self._host}: ")

    async def _answer(self, prompt: str) -> str | None:
        """Answer a question of the server, in words that say whose it is: it must not pass for one of this side."""
        return await self._ask(f"{self._user}@{self._host} asks: {prompt}")

    async def _ask(self, prompt: str) -> str | None:
        return await self._login.ask(prompt) if self._login.ask is not None else None

    @property
    def _host(self) -> str:
        return str(self._connection.get_extra_info("host"))
