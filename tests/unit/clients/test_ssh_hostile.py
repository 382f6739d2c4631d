"""What a hostile SSH server can't do to our client: forge signatures and packets, weaken the choice, ask in our name.

The defects of the seed's SSH are among it: signatures of RSA that nobody verified, a MAC that was not compared to its
end, padding without a bound, algorithms chosen by a part of their names, no strict key exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import Byte, NameList, String, UInt32

from tests.unit.api.streams.joined import Node
from weft.clients.ssh.client import HostKeyError, Login, Tunnel, ssh_connection
from weft.clients.ssh.hosts import KnownHosts
from weft.clients.ssh.words import words_of

KEYS = {kind: asyncssh.generate_private_key(kind) for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")}
KEXINIT, IGNORE = 20, 2
SEED = {
    "kex": b"curve25519-sha256",
    "host key": b"ssh-ed25519",
    "cipher": b"aes256-ctr",
    "MAC": b"hmac-sha2-256",
    "compression": b"none",
}


@asynccontextmanager
async def server(right: Node, factory: Any = asyncssh.SSHServer, **options: Any) -> AsyncIterator[None]:
    """asyncssh's, as a test wants it."""
    options = {"server_host_keys": [KEYS["ssh-ed25519"]], **options}
    acceptor = await asyncssh.listen(
        "", 22, tunnel=Tunnel(right.streams), config=None, server_factory=factory, **options
    )
    async with acceptor:
        yield


class Open(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


async def failure(left: Node, hosts: KnownHosts | None = None, **options: Any) -> Exception:
    """How a connection ends that can't be had."""
    with pytest.raises((asyncssh.Error, OSError, HostKeyError)) as caught:
        async with ssh_connection(left.streams, "right", hosts=hosts or KnownHosts(), trust=True, **options):
            pass
    assert "\n" not in words_of(caught.value)
    return caught.value


class TestSignatures:
    @pytest.mark.parametrize(
        "algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]
    )
    async def test_host_that_shows_a_key_which_it_has_not_is_refused(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch, algorithm: str
    ) -> None:
        key = KEYS["ssh-rsa" if "rsa" in algorithm else algorithm]
        hosts = KnownHosts()
        hosts.add("right", "", 22, key)
        async with server(right, Open, server_host_keys=[key], signature_algs=[algorithm]):
            async with ssh_connection(left.streams, "right", hosts=hosts, server_host_key_algs=[algorithm]):
                pass
            sign = type(key).sign
            monkeypatch.setattr(type(key), "sign", lambda self, data, alg: sign(self, b"another one", alg))
            error = await failure(left, hosts, server_host_key_algs=[algorithm])
        assert isinstance(error, asyncssh.KeyExchangeFailed)
        assert words_of(error) == "key exchange hash mismatch"


class TestTampering:
    @pytest.mark.parametrize(
        ("cipher", "mac"),
        [
            *(("aes128-ctr", "hmac-sha2-256"), ("aes256-ctr", "hmac-sha1")),
            ("aes256-gcm@openssh.com", "hmac-sha2-256"),
        ],
    )
    @pytest.mark.parametrize("place", [-1, -20])
    async def test_one_bit_ends_the_connection(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch, cipher: str, mac: str, place: int
    ) -> None:
        """Of the last packet that the server sends: within its tag, or before it."""

        async def echo(process: asyncssh.SSHServerProcess[str]) -> None:
            process.stdout.write("hello\n" * 20)
            await process.stdout.drain()
            tampered.append(True)
            process.stdout.write("and now for something else\n" * 20)

        tampered: list[bool] = []
        write = asyncssh.SSHServerConnection._send

        def send(self: Any, data: bytes) -> None:
            if tampered:
                data = data[:place] + bytes([data[place] ^ 1]) + data[len(data) + place + 1 :]
            write(self, data)

        monkeypatch.setattr(asyncssh.SSHServerConnection, "_send", send)
        heard = ""
        async with (
            server(right, Open, process_factory=echo, encryption_algs=[cipher], mac_algs=[mac]),
            ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection,
        ):
            process = await connection.create_process()
            with suppress(asyncssh.Error):
                heard = await process.stdout.read()
            await asyncio.wait_for(connection.wait_closed(), 5)
        assert heard == "hello\n" * 20
        assert tampered


async def speak(right: Node, *said: bytes, ends: bool = False) -> Any:
    """A server that sends these bytes to each client, and then ends, or hears whatever the client likes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(said))
        while not ends and await reader.read(65_536):
            pass
        writer.close()

    return await right.streams.start_server(handle, None, 22)


VERSION = b"SSH-2.0-hostile\r\n"


def packet(payload: bytes, padding: int | None = None) -> bytes:
    """Without encryption, with a number of bytes of padding that may be a lie."""
    fill = -(len(payload) + 5) % 8 + 8
    body = bytes([fill if padding is None else padding]) + payload + bytes(fill)
    return UInt32(len(body)) + body


def kexinit(other: Mapping[str, bytes] | None = None, *, strict: bool = False) -> bytes:
    """What a server offers, of which something is otherwise."""
    offer = {**SEED, **(other or {})}
    kex = [offer["kex"], *([b"kex-strict-s-v00@openssh.com"] if strict else [])]
    lists: Sequence[Sequence[bytes]] = [
        kex,
        [offer["host key"]],
        *[[offer["cipher"]]] * 2,
        *[[offer["MAC"]]] * 2,
        *[[offer["compression"]]] * 2,
        *[[]] * 2,
    ]
    return packet(Byte(KEXINIT) + bytes(16) + b"".join(map(NameList, lists)) + bytes(5))


class TestPackets:
    @pytest.mark.parametrize("padding", [0, 255])
    async def test_padding_that_is_longer_than_the_packet_or_none(self, left: Node, right: Node, padding: int) -> None:
        await speak(right, VERSION, packet(b"\x14" + bytes(16), padding))
        await failure(left)

    @pytest.mark.parametrize("size", [0, 1, 2**20, 2**32 - 1])
    async def test_length_that_can_not_be(self, left: Node, right: Node, size: int) -> None:
        await speak(right, VERSION, UInt32(size) + bytes(300_000))
        await failure(left)

    @pytest.mark.parametrize(
        "said",
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-1.5-old\r\n",
            b"SSH-2.0-" + b"x" * 10_000,
            b"SSH-2.0-\xff\xfe\r\n",
            b"hello\r\n" * 5000,
            b"x" * 1_000_000,
            bytes(1000),
        ],
        ids=["http", "old", "long", "no text", "lines", "line", "zeros"],
    )
    async def test_what_is_no_greeting(self, left: Node, right: Node, said: bytes) -> None:
        await speak(right, said, ends=True)
        await failure(left)


class TestChoice:
    # Which host key it is, is seen when it comes: see `TestSignatures`.
    @pytest.mark.parametrize("what", sorted(SEED.keys() - {"host key"}))
    @pytest.mark.parametrize("around", [b"x%b", b"%bx", b"%b@evil.example"])
    async def test_name_that_has_ours_in_it_is_another_one(
        self, left: Node, right: Node, what: str, around: bytes
    ) -> None:
        await speak(right, VERSION, kexinit({what: around % SEED[what]}))
        error = await failure(left)
        assert isinstance(error, asyncssh.KeyExchangeFailed)
        assert words_of(error).startswith("no matching ")

    async def test_order_is_the_clients(self, left: Node, right: Node) -> None:
        async with (
            server(right, Open, encryption_algs=["aes128-ctr", "aes256-ctr"], mac_algs=["hmac-sha1", "hmac-sha2-256"]),
            ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection,
        ):
            assert connection.get_extra_info("send_cipher") == "aes256-ctr"
            assert connection.get_extra_info("recv_mac") == "hmac-sha2-256"

    @pytest.mark.parametrize(
        "weak",
        [
            {"kex": b"diffie-hellman-group1-sha1"},
            {"cipher": b"3des-cbc"},
            {"cipher": b"aes256-cbc"},
            {"cipher": b"arcfour"},
            {"cipher": b"none"},
            {"MAC": b"hmac-md5"},
            {"MAC": b"none"},
            {"compression": b"zlib"},
            {"compression": b"zlib@openssh.com"},
        ],
        ids=lambda weak: next(iter(weak.values())).decode(),
    )
    async def test_what_is_weak_is_not_agreed_on(self, left: Node, right: Node, weak: dict[str, bytes]) -> None:
        await speak(right, VERSION, kexinit(weak))
        assert isinstance(await failure(left), asyncssh.KeyExchangeFailed)

    async def test_packet_before_the_key_exchange_breaks_its_strict_form(self, left: Node, right: Node) -> None:
        """CVE-2023-48795: what is slipped in shifts the numbers of the packets that come later."""
        await speak(right, VERSION, packet(Byte(IGNORE) + String(b"")), kexinit(strict=True))
        assert "strict key exchange violation" in words_of(await failure(left))


class TestCompression:
    async def test_packet_that_unpacks_to_much_is_never_agreed_on(self, left: Node, right: Node) -> None:
        async with (
            server(right, Open, compression_algs=["zlib@openssh.com", "none"]),
            ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection,
        ):
            assert connection.get_extra_info("recv_compression") == "none"


class TestQuestions:
    async def test_server_asks_in_its_own_name(self, left: Node, right: Node) -> None:
        """It may not make a person believe that this side asks for the passphrase of a key."""
        prompts = ["Passphrase of /home/anna/.ssh/id_ed25519: ", "Password: ", "\x1b[2Jx\nweft: done\nPassphrase: "]

        class Asking(asyncssh.SSHServer):
            def kbdint_auth_supported(self) -> bool:
                return True

            def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
                return "", "", "", [(prompt, False) for prompt in prompts]

            def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
                return list(responses) == ["one", "two", "three"]

        asked: list[str] = []
        answers = ["one", "two", "three"]

        async def ask(prompt: str) -> str | None:
            asked.append(prompt)
            return answers[len(asked) - 1]

        login = Login(user="anna", ask=ask)
        async with (
            server(right, Asking),
            ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True, login=login),
        ):
            pass
        assert asked == [f"anna@right asks: {prompt}" for prompt in prompts]

    async def test_password_is_sent_once_however_often_the_server_asks(self, left: Node, right: Node) -> None:
        heard: list[str] = []

        class Greedy(asyncssh.SSHServer):
            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                heard.append(password)
                return False

        async with server(right, Greedy):
            await failure(left, login=Login(user="anna", password="secret"))
        assert heard == ["secret"]


class TestWayBack:
    async def test_server_reaches_nothing_on_this_side_by_itself(
        self, left: Node, right: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither ports nor sockets nor the agent, which it was not lent, although this side has one."""
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        outcomes: list[object] = []

        async def reach(process: asyncssh.SSHServerProcess[str]) -> None:
            connection: Any = process.channel.get_connection()
            connection._agent_forwarding = True
            for attempt in (
                connection.open_connection("127.0.0.1", 22),
                connection.open_unix_connection(str(tmp_path / "socket")),
                connection.open_agent_connection(),
            ):
                outcomes.extend(await asyncio.gather(attempt, return_exceptions=True))
            process.exit(0)

        async with (
            server(right, Open, process_factory=reach),
            ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection,
        ):
            await connection.run()
        assert [type(each) for each in outcomes] == [asyncssh.ChannelOpenError] * 3
