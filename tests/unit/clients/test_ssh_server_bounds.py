"""What a hostile SSH client can't do to our server: take all the room, its memory or its descriptors, or break it."""

from __future__ import annotations

import asyncio
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import String

from tests.unit.api.streams.joined import Node
from tests.unit.clients.test_ssh_server import logged_in, serving
from weft.clients.sftp.folder import HANDLES, READ_BYTES
from weft.clients.ssh.client import ssh_connection
from weft.clients.ssh.hosts import KnownHosts
from weft.clients.ssh.server import REFUSALS
from weft.clients.ssh.session import VARIABLE_BYTES, VARIABLES

pytestmark = pytest.mark.usefixtures("bare_home")

LARGE = 2**40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("file")
    return root


class TestRoom:
    async def test_strangers_who_stay_at_the_door_take_no_room_from_who_is_allowed(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They come from another address and say nothing, as long as they may."""
        monkeypatch.setattr("weft.clients.ssh.server.CONNECTIONS", 2)
        async with serving(left, right):
            silent = [await left.streams.open_connection(right.ipv4, 22) for _ in range(REFUSALS + 8)]
            async with ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection:
                assert (await connection.run("echo in")).stdout == "in\n"
            # Those who are too many even for that are sent away at once.
            too_many = (reader.read() for reader, _ in silent[REFUSALS:])
            await asyncio.wait_for(asyncio.gather(*too_many, return_exceptions=True), 5)
            for _, writer in silent:
                writer.transport.abort()

    @pytest.mark.parametrize(
        "said", [b"", b"SSH-2.0-x\r\n" + bytes(100), b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100_000, b"SSH-2.0-\xff\r\n"]
    )
    async def test_who_speaks_no_ssh_breaks_nothing(self, left: Node, right: Node, said: bytes) -> None:
        async with serving(left, right):
            _, writer = await left.streams.open_connection("right", 22)
            writer.write(said)
            async with ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection:
                assert (await connection.run("echo in")).stdout == "in\n"
            writer.transport.abort()


class TestForwarding:
    async def test_of_sockets_and_interfaces_is_refused(self, left: Node, right: Node, tmp_path: Path) -> None:
        async with logged_in(left, right) as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_unix_connection(str(tmp_path / "socket"))
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_path(str(tmp_path / "socket"), "/nowhere")
            for open_device in (connection.open_tun, connection.open_tap):
                with pytest.raises(asyncssh.ChannelOpenError):
                    await open_device(0)
            assert not (tmp_path / "socket").exists()

    async def test_of_the_agent_is_not_done(self, left: Node, right: Node, tmp_path: Path) -> None:
        async with (
            serving(left, right),
            ssh_connection(
                left.streams, "right", hosts=KnownHosts(), trust=True, agent_forwarding=str(tmp_path / "agent")
            ) as connection,
        ):
            done = await connection.run("echo ${SSH_AUTH_SOCK-none}")
        assert done.stdout == "none\n"


class TestWords:
    @pytest.mark.parametrize("options", [{"command": "echo a\0b"}, {"env": {"LANG": "a\0b"}}])
    async def test_nul_in_them_is_told_and_the_session_ends(
        self, left: Node, right: Node, options: dict[str, Any]
    ) -> None:
        async with logged_in(left, right) as connection, asyncio.timeout(5):
            done = await connection.run(**{"command": "true", **options})
            assert done.exit_status == 255
            assert "null byte" in str(done.stderr)
            assert (await connection.run("echo in")).stdout == "in\n"

    async def test_environment_is_bounded(self, left: Node, right: Node) -> None:
        many = {f"LC_{number}": "x" for number in range(10 * VARIABLES)}
        async with logged_in(left, right) as connection:
            done = await connection.run("env", env={"LC_BIG": "x" * VARIABLE_BYTES, **many})
        told = [line for line in str(done.stdout).splitlines() if line.startswith("LC_")]
        assert len([line for line in told if line[3].isdigit()]) == VARIABLES
        assert "LC_BIG" not in str(done.stdout)


class TestFiles:
    async def test_read_of_more_than_there_may_be_gives_a_part(self, left: Node, right: Node, root: Path) -> None:
        """A file that takes no room on the disk may be larger than all memory."""
        async with logged_in(left, right, root=root) as connection, connection.start_sftp_client() as sftp:
            async with await sftp.open("sparse", "wb") as file:
                await file.truncate(LARGE)
            async with await sftp.open("sparse", "rb", block_size=0) as file:
                assert len(await file.read(2**32 - 1, 0)) <= READ_BYTES

    async def test_who_has_everything_gets_a_part_too(self, left: Node, right: Node, root: Path) -> None:
        os.truncate(root / "file", LARGE)
        async with (
            logged_in(left, right) as connection,
            connection.start_sftp_client() as sftp,
            await sftp.open(str(root / "file"), "rb", block_size=0) as file,
        ):
            assert len(await file.read(2**32 - 1, 0)) <= READ_BYTES

    async def test_handles_are_bounded_and_come_back(self, left: Node, right: Node, root: Path) -> None:
        async with logged_in(left, right, root=root) as connection, connection.start_sftp_client() as sftp:
            files = [await sftp.open("file", "rb") for _ in range(HANDLES - 1)]
            listing = await sftp._handler.opendir(b".")
            for attempt in (sftp.open("file", "rb"), sftp.listdir(".")):
                with pytest.raises(asyncssh.SFTPFailure, match="Too many open files"):
                    await attempt
            await sftp._handler.close(listing)
            assert "file" in await sftp.listdir(".")
            for file in files:
                await file.close()
            async with await sftp.open("file", "rb") as file:
                assert await file.read() == b"file"

    @pytest.mark.parametrize("place", [2**63, 2**64 - 1])
    async def test_place_beyond_all_files_is_refused(self, left: Node, right: Node, root: Path, place: int) -> None:
        async with logged_in(left, right, root=root) as connection, connection.start_sftp_client() as sftp:
            async with await sftp.open("file", "r+b") as file:
                assert await file.read(10, place) == b""
                with pytest.raises(asyncssh.SFTPError, match="File too large"):
                    await file.write(b"x", place)
                with pytest.raises(asyncssh.SFTPError, match="File too large"):
                    await file.truncate(place)
            with pytest.raises(asyncssh.SFTPError, match="File too large"):
                await sftp.truncate("file", place)
        assert (root / "file").read_text() == "file"

    async def test_client_that_takes_no_answers_is_asked_for_no_more_requests(
        self, left: Node, right: Node, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its own window is closed, and it asks and asks: what waits for it is a few answers, not all of them."""
        (root / "file").write_bytes(bytes(1_000_000))
        read = asyncssh.SFTPServer.read
        reads = 0

        def counted(self: Any, *arguments: Any) -> bytes:
            nonlocal reads
            reads += 1
            return original(self, *arguments)

        from weft.clients.sftp.folder import FolderServer

        original = FolderServer.read
        assert original is not read
        monkeypatch.setattr(FolderServer, "read", counted)
        async with logged_in(left, right, root=root) as connection:
            channel, session = await connection.create_session(
                asyncssh.SSHClientSession, subsystem="sftp", encoding=None, window=65_536
            )
            channel.pause_reading()
            del session
            write = channel.write

            def say(kind: int, number: int | None, *words: bytes) -> None:
                payload = bytes([kind]) + (b"" if number is None else number.to_bytes(4, "big")) + b"".join(words)
                write(len(payload).to_bytes(4, "big") + payload)

            say(1, None, (3).to_bytes(4, "big"))
            say(3, 1, String("file"), (1).to_bytes(4, "big"), (0).to_bytes(4, "big"))
            for number in range(2000):
                say(5, number, String(bytes(4)), bytes(8), (1_000_000).to_bytes(4, "big"))
            for _ in range(100):
                await asyncio.sleep(0.005)
            assert 0 < reads < 20
            channel.abort()


async def test_peer_of_another_address_is_another_one(left: Node, right: Node) -> None:
    """Its address says who it is, whatever it says of itself."""
    async with serving(left, right, allowed=[ip_network(right.ipv6)]):
        with pytest.raises(asyncssh.PermissionDenied):
            async with ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True):
                pass
