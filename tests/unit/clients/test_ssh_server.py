"""Our SSH server and our client, host to host: who comes in, what runs, what ends, and the folder nothing leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from random import Random
from typing import Any, cast

import asyncssh
import pytest

from tests.unit.api.streams.joined import Node
from weft.clients.relay import reset
from weft.clients.ssh.child import Child
from weft.clients.ssh.client import HostKeyError, ssh_connection
from weft.clients.ssh.hosts import KnownHosts
from weft.clients.ssh.server import CONNECTIONS, KEY_FILE, SESSIONS, SshServer, host_key, serve_ssh
from weft.clients.ssh.words import words_of
from weft.errors import ConfigError

pytestmark = pytest.mark.usefixtures("bare_home")

KEY = asyncssh.generate_private_key("ssh-ed25519")


@asynccontextmanager
async def serving(left: Node, right: Node, root: Path | None = None, **arguments: Any) -> AsyncIterator[SshServer]:
    """A server on the right for who is on the left."""
    arguments = {"allowed": [ip_network(left.ipv6)], "key": KEY, "root": root, **arguments}
    server = await serve_ssh(right.streams, **arguments)
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def logged_in(left: Node, right: Node, **arguments: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with (
        serving(left, right, **arguments),
        ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection,
    ):
        yield connection


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestWho:
    async def test_peer_that_is_allowed_proves_nothing_else(self, left: Node, right: Node) -> None:
        told: list[str] = []
        async with logged_in(left, right, told=told.append) as connection:
            assert (await connection.run("echo in", check=True)).stdout == "in\n"
        await until(lambda: len(told) == 2)
        assert told == [f"{left.ipv6} has come in", f"{left.ipv6} has left"]

    async def test_peer_that_is_not_is_refused_in_one_line(self, left: Node, right: Node) -> None:
        told: list[str] = []
        with pytest.raises(asyncssh.PermissionDenied) as caught:
            async with logged_in(left, right, allowed=[ip_network("fc00::3")], told=told.append):
                pass
        assert words_of(caught.value) == f"peer {left.ipv6} is not allowed to log in here"
        assert told == [f"{left.ipv6} is refused: it is no peer that is allowed"]

    async def test_address_of_the_other_family_is_another_one(self, left: Node, right: Node) -> None:
        async with serving(left, right):
            with pytest.raises(asyncssh.PermissionDenied):
                async with ssh_connection(left.streams, right.ipv4, hosts=KnownHosts(), trust=True):
                    pass

    async def test_one_too_many_is_refused_and_the_others_stay(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert CONNECTIONS >= 16
        monkeypatch.setattr("weft.clients.ssh.server.CONNECTIONS", 2)
        hosts = KnownHosts()
        async with serving(left, right):
            async with (
                ssh_connection(left.streams, "right", hosts=hosts, trust=True) as first,
                ssh_connection(left.streams, "right", hosts=hosts),
            ):
                with pytest.raises(asyncssh.DisconnectError) as caught:
                    async with ssh_connection(left.streams, "right", hosts=hosts):
                        pass
                assert words_of(caught.value) == "too many connections"
                assert (await first.run("echo still here")).stdout == "still here\n"
            async with ssh_connection(left.streams, "right", hosts=hosts):
                pass

    async def test_sessions_of_a_connection_are_bounded(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            processes = [await connection.create_process("cat") for _ in range(SESSIONS)]
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process("cat")
            processes[0].stdin.write_eof()
            await processes[0].wait()
            assert (await connection.run("echo again")).stdout == "again\n"

    async def test_nothing_is_forwarded(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", 22)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 22)


class TestHostKey:
    def test_is_made_once_and_kept_secret(self, tmp_path: Path) -> None:
        first = host_key(tmp_path)
        assert host_key(tmp_path) == first
        assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600

    def test_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        host_key(tmp_path)
        (tmp_path / KEY_FILE).chmod(0o644)
        with pytest.raises(ConfigError, match="others can use this secret"):
            host_key(tmp_path)

    async def test_known_host_that_resets_is_asked_for_its_other_keys(self, left: Node, right: Node) -> None:
        met = 0

        class Resetting(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                nonlocal met
                met += 1
                reset(cast("asyncio.Transport", transport))

        async with await right.streams.create_server(Resetting, None, 22):
            hosts = KnownHosts()
            hosts.add("right", "", 22, asyncssh.generate_private_key("ssh-ed25519").convert_to_public())
            with pytest.raises(ConnectionResetError):
                async with ssh_connection(left.streams, "right", hosts=hosts):
                    pass
        assert met == 2

    async def test_another_one_is_refused_by_who_knew_it(self, left: Node, right: Node) -> None:
        hosts = KnownHosts()
        async with serving(left, right), ssh_connection(left.streams, "right", hosts=hosts, trust=True):
            pass
        async with serving(left, right, key=asyncssh.generate_private_key("ssh-ed25519")):
            with pytest.raises(HostKeyError, match="the key of right has changed"):
                async with ssh_connection(left.streams, "right", hosts=hosts, trust=True):
                    pass


class TestProcesses:
    @pytest.mark.parametrize("code", [0, 1, 255])
    async def test_exit_code(self, left: Node, right: Node, code: int) -> None:
        async with logged_in(left, right) as connection:
            assert (await connection.run(f"exit {code}")).exit_status == code

    async def test_streams_are_apart_without_a_terminal_and_one_with_it(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            apart = await connection.run("echo out; echo err >&2")
            together = await connection.run("echo out; echo err >&2; tty", term_type="xterm")
        assert (apart.stdout, apart.stderr) == ("out\n", "err\n")
        assert str(together.stdout).startswith("out\r\nerr\r\n/dev/")

    @pytest.mark.parametrize("term", [None, "xterm"])
    async def test_bulk_both_ways(self, left: Node, right: Node, term: str | None) -> None:
        data = "".join(f"{number:09}\n" for number in range(100_000))
        command = "cat" if term is None else "stty -echo -opost; echo ready; cat"
        async with logged_in(left, right) as connection:
            process = await connection.create_process(command, term_type=term)
            if term is not None:
                assert (await process.stdout.readline()).strip() == "ready"
            process.stdin.write(data)
            process.stdin.write_eof()
            assert await process.stdout.read() == data
            await process.wait()
        assert process.exit_status == 0

    async def test_signal_reaches_what_runs_though_it_does_not_read(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            process = await connection.create_process(
                "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.02; done"
            )
            assert await process.stdout.readline() == "ready\n"
            process.stdin.write("unread" * 1000)
            process.send_signal("USR1")
            assert await process.stdout.readline() == "got it\n"
            await process.wait()
        assert process.exit_status == 5

    async def test_end_by_a_signal_is_told(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            done = await connection.run("kill -SEGV $$")
        assert done.exit_signal is not None
        assert done.exit_signal[0] == "SEGV"

    async def test_signal_that_there_is_not_changes_nothing(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            process = await connection.create_process("cat")
            process.send_signal("STOP")
            process.send_signal("../../x")
            process.stdin.write("still here\n")
            assert await process.stdout.readline() == "still here\n"

    async def test_size_of_the_terminal_follows(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            program = "stty -echo; stty size; while read line; do stty size; done"
            process = await connection.create_process(program, term_type="xterm", term_size=(80, 24))
            assert (await process.stdout.readline()).strip() == "24 80"
            for columns, lines, shown in ((132, 50, "50 132"), (2**31, 2**32 - 1, "65535 65535")):
                process.change_terminal_size(columns, lines)
                process.stdin.write("\n")
                assert (await process.stdout.readline()).strip() == shown

    async def test_environment_is_the_accounts_and_of_the_client_only_its_language(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_TOKEN", "x")
        async with logged_in(left, right) as connection:
            done = await connection.run("env", env={"LANG": "de_DE.UTF-8", "LD_PRELOAD": "x", "PATH": "/evil"})
        told = dict(line.split("=", 1) for line in str(done.stdout).splitlines() if "=" in line)
        assert told["LANG"] == "de_DE.UTF-8"
        assert not {"SECRET_TOKEN", "LD_PRELOAD"} & told.keys()
        assert "/evil" not in told["PATH"]
        assert told["SSH_CONNECTION"].split()[0] == left.ipv6

    @pytest.mark.parametrize("term", [None, "xterm"])
    async def test_process_ends_with_the_connection(self, left: Node, right: Node, term: str | None) -> None:
        async with serving(left, right):
            async with ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection:
                process = await connection.create_process("echo $$; sleep 1000", term_type=term)
                pid = int(await process.stdout.readline())
                assert runs(pid)
                connection.abort()
            await until(lambda: not runs(pid))

    async def test_process_that_ignores_the_hang_up_is_killed(
        self, left: Node, right: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("weft.clients.ssh.child.HANG_UP_S", 0.1)
        async with serving(left, right):
            async with ssh_connection(left.streams, "right", hosts=KnownHosts(), trust=True) as connection:
                process = await connection.create_process("trap '' HUP; echo $$; while :; do sleep 0.05; done")
                pid = int(await process.stdout.readline())
            await until(lambda: not runs(pid))

    @pytest.mark.parametrize("group", [-1, 0, 1, os.getpgrp()])
    async def test_signals_reach_no_group_but_its_own(self, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
        """Before the session has taken its terminal, the one in front is nobody, or somebody else."""
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: group)
        killed: list[int] = []
        kill = os.killpg

        def note(pid: int, number: int) -> None:
            killed.append(pid)
            if pid != group:
                kill(pid, number)

        monkeypatch.setattr(os, "killpg", note)
        environment = {"HOME": "/", "SHELL": "/bin/sh", "PATH": os.defpath}
        child = await Child.start("echo $$; sleep 1000", environment, (80, 24, 0, 0))
        pid = int(await child.read())
        child.send_signal("INT")
        await child.hang_up()
        assert set(killed) == {pid}

    async def test_end_of_the_server_ends_what_runs(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection:
            process = await connection.create_process("echo $$; sleep 1000")
            pid = int(await process.stdout.readline())
        await until(lambda: not runs(pid))

    async def test_what_is_left_behind_does_not_hold_the_terminal(self, left: Node, right: Node) -> None:
        async with logged_in(left, right) as connection, asyncio.timeout(10):
            done = await connection.run("(trap '' HUP; sleep 1000) & echo $!", term_type="xterm")
        os.kill(int(str(done.stdout)), signal.SIGKILL)
        assert done.exit_status == 0


class TestFolder:
    """The root folder has a secret beside it, and links to it."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "secret").write_text("secret")
        root = tmp_path / "root"
        (root / "inner").mkdir(parents=True)
        (root / "file").write_text("file")
        (root / "inner" / "file").write_text("inner")
        (root / "link").symlink_to("../secret")
        (root / "out").symlink_to("..")
        (root / "absolute").symlink_to("/etc")
        (root / "near").symlink_to("file")
        os.mkfifo(root / "pipe")
        return root

    @pytest.mark.parametrize(
        "path",
        [
            *("link", "near", "out/secret", "out/root/file", "absolute/passwd", "inner/../out/secret", "/out/secret"),
            *("../secret", "../../secret", "/../secret", "inner/../../secret", "//..//secret", "./.././secret"),
            *("file\0", "\0", "inner/\0/../../secret", "pipe", "inner", "file/x", "x" * 5000, "\udcff\udcfe"),
        ],
    )
    async def test_nothing_is_read_that_is_not_a_file_in_it(
        self, left: Node, right: Node, root: Path, path: str
    ) -> None:
        async with logged_in(left, right, root=root) as connection, connection.start_sftp_client() as sftp:
            with pytest.raises(asyncssh.SFTPError):
                await sftp.open(os.fsencode(path), "rb")

    async def test_nothing_is_changed_outside(self, left: Node, right: Node, root: Path) -> None:
        before = sorted(os.listdir(root.parent))
        async with logged_in(left, right, root=root) as connection, connection.start_sftp_client() as sftp:
            tries = [
                lambda: sftp.open("out/new", "w"),
                lambda: sftp.open("link", "w"),
                lambda: sftp.remove("out/secret"),
                lambda: sftp.rename("file", "out/file"),
                lambda: sftp.posix_rename("file", "out/file"),
                lambda: sftp.rename("out/secret", "got"),
                lambda: sftp.link("out/secret", "got"),
                lambda: sftp.link("link", "got"),
                lambda: sftp.symlink("/etc", "new"),
                lambda: sftp.mkdir("out/new"),
                lambda: sftp.rmdir("out/root"),
                lambda: sftp.chmod("link", 0o777),
                lambda: sftp.truncate("link", 0),
                lambda: sftp.utime("link", (1, 1)),
                lambda: sftp.chown("file", 0, 0),
                lambda: sftp.listdir("out"),
                lambda: sftp.stat("out/secret"),
                lambda: sftp.stat("link"),
                lambda: sftp.readlink("out/root/link"),
                lambda: sftp.statvfs("absolute"),
            ]
            for attempt in tries:
                with pytest.raises(asyncssh.SFTPError):
                    await attempt()
        assert sorted(os.listdir(root.parent)) == before
        assert (root.parent / "secret").read_text() == "secret"
        assert "got" not in os.listdir(root)

    async def test_link_that_comes_while_a_path_is_walked_leads_nowhere(
        self, left: Node, right: Node, root: Path
    ) -> None:
        """Somebody on this machine swaps a folder for a link and back, while a client reads through it."""
        (root / "swapped").mkdir()
        (root / "swapped" / "secret").write_text("harmless")
        other = root / "kept"

        async def swap() -> None:
            while True:
                os.rename(root / "swapped", other)
                os.symlink("..", root / "swapped")
                await asyncio.sleep(0)
                os.unlink(root / "swapped")
                os.rename(other, root / "swapped")
                await asyncio.sleep(0)

        async with logged_in(left, right, root=root) as connection, connection.start_sftp_client() as sftp:
            swapping = asyncio.create_task(swap())
            for _ in range(100):
                try:
                    async with await sftp.open("swapped/secret", "rb") as file:
                        assert await file.read() == b"harmless"
                except asyncssh.SFTPError:
                    continue
            swapping.cancel()

    async def test_what_is_in_it_is_seen_and_changed(self, left: Node, right: Node, root: Path) -> None:
        data = Random(1).randbytes(300_000)
        async with logged_in(left, right, root=root) as connection, connection.start_sftp_client() as sftp:
            assert {str(name) for name in await sftp.listdir(".")} == {*os.listdir(root), ".", ".."}
            assert await sftp.realpath("inner/../../../inner/./file") == "/inner/file"
            assert await sftp.readlink("link") == "../secret"
            assert (await sftp.stat("..")).size == (await sftp.stat("/")).size
            async with await sftp.open("new", "wb") as file:
                await file.write(data)
            async with await sftp.open("new", "ab") as file:
                await file.write(b"end")
                await file.fsync()
                assert (await file.stat()).size == len(data) + 3
            async with await sftp.open("new", "rb") as file:
                assert await file.read() == data + b"end"
            await sftp.chmod("new", 0o4755)
            await sftp.utime("new", (10, 20))
            await sftp.truncate("new", 5)
            attrs = await sftp.stat("new")
            assert (attrs.size, (attrs.permissions or 0) & 0o7777) == (5, 0o755)
            await sftp.mkdir("folder")
            await sftp.rename("new", "folder/new")
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp.rename("file", "folder/new")
            await sftp.posix_rename("file", "folder/new")
            await sftp.link("folder/new", "second")
            await sftp.remove("folder/new")
            await sftp.rmdir("folder")
            assert (root / "second").read_text() == "file"
            assert (await sftp.statvfs("/")).bsize
            await sftp.remove("link")
        assert (root.parent / "secret").exists()

    async def test_only_sftp_is_served(self, left: Node, right: Node, root: Path) -> None:
        async with logged_in(left, right, root=root) as connection:
            for command in ("id", None):
                done = await connection.run(command)
                assert (done.exit_status, done.stdout, done.stderr) == (1, "", "weft: only SFTP is served here\n")
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("id", term_type="xterm", request_pty="force")

    async def test_folder_that_is_none_is_told_at_once(self, left: Node, right: Node, root: Path) -> None:
        for path in (root / "file", root / "nothing"):
            with pytest.raises(OSError, match=r"Not a directory|No such file"):
                await serve_ssh(right.streams, [ip_network(left.ipv6)], key=KEY, root=path)
