"""Our SSH against OpenSSH's server and its client against ours, through the tunnel of two nodes without rights."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from random import Random
from typing import Any

import asyncssh
import pytest
import pytest_asyncio

import weft
from tests.interop.openssh import OpenSsh, keygen
from tests.unit.engine.pair import identity
from weft.clients.forward import Forwarder
from weft.clients.sftp.copy import BLOCK_BYTES, IN_FLIGHT
from weft.clients.sftp.tree import Trees
from weft.clients.ssh.client import HostKeyError, Login, NewHost, ssh_connection
from weft.clients.ssh.hosts import KnownHosts
from weft.clients.ssh.server import serve_ssh
from weft.clients.ssh.words import words_of

pytestmark = pytest.mark.interop("sshd", "ssh", "ssh-keygen", "ssh-agent", "ssh-add")


def said_by(*words: object) -> subprocess.CompletedProcess[str]:
    """A program of OpenSSH's, or another short one."""
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openssh")


@pytest.fixture
def server(folder: Path) -> OpenSsh:
    """With one set of keys for all tests, since RSA's take long."""
    server = OpenSsh(folder)
    server.authorized.write_text((folder / "user.pub").read_text())
    return server


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[tuple[weft.Node, weft.Node]]:
    async with weft.Node(identity=identity("alice")) as alice, weft.Node(identity=identity("bob")) as bob:
        await alice.connect_peer(bob.multiaddrs[0], name="bob")
        yield alice, bob


@asynccontextmanager
async def connected(
    nodes: tuple[weft.Node, weft.Node], server: OpenSsh, hosts: KnownHosts | None = None, **options: Any
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """To the server, as somebody whom it knows, unless `login` says otherwise."""
    options = {"login": Login(keys=[server.user_key]), "trust": True, **options}
    listener = await server.serve(nodes[1])
    try:
        async with ssh_connection(nodes[0], "bob", hosts=hosts or KnownHosts(), **options) as connection:
            yield connection
    finally:
        listener.close()
        await server.ended()


def agreed(connection: asyncssh.SSHClientConnection, what: str) -> str:
    said = connection.get_extra_info(what)
    return said.decode() if isinstance(said, bytes) else str(said)


class TestAlgorithms:
    """Each that the seed names, with a server that knows no other."""

    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            (["KexAlgorithms curve25519-sha256"], "kex: algorithm: curve25519-sha256"),
            (["HostKeyAlgorithms ssh-ed25519"], "host key algorithm: ssh-ed25519"),
            (["HostKeyAlgorithms rsa-sha2-256"], "host key algorithm: rsa-sha2-256"),
            (["HostKeyAlgorithms rsa-sha2-512"], "host key algorithm: rsa-sha2-512"),
            (["HostKeyAlgorithms ssh-rsa"], "host key algorithm: ssh-rsa"),
            (["Ciphers aes128-ctr", "MACs hmac-sha2-256"], "cipher: aes128-ctr MAC: hmac-sha2-256"),
            (["Ciphers aes256-ctr", "MACs hmac-sha2-256"], "cipher: aes256-ctr MAC: hmac-sha2-256"),
            (["Ciphers aes128-ctr", "MACs hmac-sha1"], "cipher: aes128-ctr MAC: hmac-sha1"),
            (["Ciphers aes256-ctr", "MACs hmac-sha1"], "cipher: aes256-ctr MAC: hmac-sha1"),
            (["Compression no"], "compression: none"),
        ],
        ids=lambda value: ", ".join(value) if isinstance(value, list) else "",
    )
    async def test_algorithm_alone(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, lines: list[str], told: str
    ) -> None:
        server.configure(*lines)
        data = Random(1).randbytes(200_000)
        async with connected(nodes, server) as connection:
            echoed = await connection.run("cat", input=data, encoding=None)
        assert echoed.stdout == data
        assert told in server.log.read_text()
        server.log.unlink()

    async def test_all_at_once_and_not_curves_of_nist(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh
    ) -> None:
        async with connected(nodes, server) as connection:
            assert agreed(connection, "server_host_key_alg") in {"ssh-ed25519", "None"}
            assert agreed(connection, "send_cipher") == "aes256-gcm@openssh.com"

    async def test_server_with_nothing_in_common_is_one_line(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh
    ) -> None:
        server.configure("Ciphers 3des-cbc")
        with pytest.raises((asyncssh.Error, OSError)) as caught:
            async with connected(nodes, server):
                pass
        assert words_of(caught.value)
        assert "\n" not in words_of(caught.value)

    async def test_keys_are_changed_in_the_middle(self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh) -> None:
        server.configure("RekeyLimit 1M")
        data = Random(2).randbytes(5_000_000)
        async with connected(nodes, server, rekey_bytes=1_000_000) as connection:
            echoed = await connection.run("cat", input=data, encoding=None)
        assert echoed.stdout == data
        assert server.log.read_text().count("rekey in") > 2
        server.log.unlink()


class TestAlgorithmsOfOurServer:
    """Each that the seed names, with OpenSSH's client, which knows no other then."""

    @pytest.mark.parametrize(
        ("option", "told"),
        [
            ("KexAlgorithms=curve25519-sha256", "kex: algorithm: curve25519-sha256"),
            ("HostKeyAlgorithms=ssh-ed25519", "kex: host key algorithm: ssh-ed25519"),
            ("HostKeyAlgorithms=rsa-sha2-256", "kex: host key algorithm: rsa-sha2-256"),
            ("HostKeyAlgorithms=rsa-sha2-512", "kex: host key algorithm: rsa-sha2-512"),
            ("HostKeyAlgorithms=ssh-rsa", "kex: host key algorithm: ssh-rsa"),
            ("Ciphers=aes128-ctr MACs=hmac-sha2-256", "cipher: aes128-ctr MAC: hmac-sha2-256 compression: none"),
            ("Ciphers=aes256-ctr MACs=hmac-sha2-256", "cipher: aes256-ctr MAC: hmac-sha2-256 compression: none"),
            ("Ciphers=aes128-ctr MACs=hmac-sha1", "cipher: aes128-ctr MAC: hmac-sha1 compression: none"),
            ("Ciphers=aes256-ctr MACs=hmac-sha1", "cipher: aes256-ctr MAC: hmac-sha1 compression: none"),
        ],
    )
    async def test_algorithm_alone(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, option: str, told: str
    ) -> None:
        data = Random(1).randbytes(200_000)
        async with reached(nodes, server, is_rsa="rsa" in option) as port:
            code, out, err = await openssh(port, *option.split(), "cat", given=data)
        assert (code, out == data) == (0, True), err
        assert told in err

    @pytest.mark.parametrize(
        "option", ["Ciphers=3des-cbc", "Ciphers=aes128-ctr MACs=hmac-md5", "KexAlgorithms=diffie-hellman-group1-sha1"]
    )
    async def test_weak_ones_are_not_spoken(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, option: str
    ) -> None:
        async with reached(nodes, server) as port:
            code, _, err = await openssh(port, *option.split(), "true")
        assert code == 255
        assert "no matching" in err

    async def test_key_exchange_is_strict(self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh) -> None:
        async with reached(nodes, server) as port:
            _, _, err = await openssh(port, "LogLevel=DEBUG3", "true")
        assert "will use strict KEX ordering" in err

    async def test_keys_are_changed_in_the_middle(self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh) -> None:
        data = Random(2).randbytes(5_000_000)
        async with reached(nodes, server) as port:
            code, out, err = await openssh(port, "RekeyLimit=1M", "cat", given=data)
        assert (code, out == data) == (0, True), err
        assert err.count("rekeying in progress") + err.count("SSH2_MSG_NEWKEYS received") > 2


@asynccontextmanager
async def reached(nodes: tuple[weft.Node, weft.Node], keys: OpenSsh, *, is_rsa: bool = False) -> AsyncIterator[int]:
    """Our server on bob for alice, at a port of this machine."""
    alice, bob = nodes
    key = asyncssh.read_private_key(keys.host_keys[is_rsa])
    server = await serve_ssh(bob, [ip_network(str(alice.address))], key=key)
    loop: Any = asyncio.get_running_loop()
    forwarder = await Forwarder.listen(loop, "127.0.0.1", 0, alice, ("bob", 22), told=print)
    try:
        yield forwarder.port
    finally:
        await forwarder.close()
        server.close()
        await server.wait_closed()


async def openssh(port: int, *words: str, given: bytes = b"") -> tuple[int | None, bytes, str]:
    """OpenSSH's client with options and a command, which is the last word; its exit code, output and what it tells."""
    *options, command = words
    usual = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=DEBUG1")
    process = await asyncio.create_subprocess_exec(
        *("ssh", "-F", "none", "-p", str(port), *(word for each in (*options, *usual) for word in ("-o", each))),
        *("127.0.0.1", command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(given), 30)
    return process.returncode, out, err.decode()


class TestHostKeys:
    async def test_new_host_is_refused_unless_somebody_trusts_it(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        hosts = KnownHosts(tmp_path / "known_hosts")
        with pytest.raises(HostKeyError, match="bob is not known, and nobody says that its key ssh-ed25519 SHA256:"):
            async with connected(nodes, server, hosts, trust=False):
                pass
        assert not (tmp_path / "known_hosts").exists()
        asked: list[NewHost] = []

        async def trust(new: NewHost) -> bool:
            asked.append(new)
            return True

        async with connected(nodes, server, hosts, trust=trust):
            pass
        shown = said_by("ssh-keygen", "-lf", server.host_keys[0])
        assert asked[0].fingerprint in shown.stdout
        async with connected(nodes, server, KnownHosts(tmp_path / "known_hosts"), trust=False):
            pass

    async def test_what_was_learned_is_as_openssh_would_have_it(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        async with connected(nodes, server, KnownHosts(tmp_path / "known_hosts")):
            pass
        for name in ("bob", str(nodes[1].address)):
            found = said_by("ssh-keygen", "-F", name, "-f", tmp_path / "known_hosts")
            assert (found.returncode, "ssh-ed25519" in found.stdout) == (0, True)

    async def test_other_names_of_a_known_peer_are_known(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh
    ) -> None:
        hosts = KnownHosts()
        async with connected(nodes, server, hosts):
            pass
        listener = await server.serve(nodes[1])
        for name in (str(nodes[1].address), str(nodes[1].identity)):
            async with ssh_connection(nodes[0], name, login=Login(keys=[server.user_key]), hosts=hosts):
                pass
        listener.close()
        await server.ended()

    async def test_known_key_of_another_kind_is_the_one_that_is_asked_for(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        rsa = server.host_keys[1].with_suffix(".pub").read_text()
        for name in ("bob", str(nodes[1].address)):
            (tmp_path / "known_hosts").write_text(f"{name} {rsa}")
            async with connected(nodes, server, KnownHosts(tmp_path / "known_hosts"), trust=False) as connection:
                key = connection.get_server_host_key()
            assert key is not None
            assert key.get_algorithm() == "ssh-rsa"

    @pytest.mark.parametrize("lines", [[], ["HostKeyAlgorithms rsa-sha2-256"]], ids=["same kind", "other kind"])
    async def test_changed_key_is_refused_in_one_line(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path, lines: list[str]
    ) -> None:
        other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
        (tmp_path / "known_hosts").write_text(f"bob {other}")
        server.configure(*lines)
        hosts = KnownHosts(tmp_path / "known_hosts")
        with pytest.raises(HostKeyError, match=r"the key of bob has changed, .* SHA256:.*known_hosts") as caught:
            async with connected(nodes, server, hosts, trust=True):
                pass
        assert "\n" not in str(caught.value)
        assert (tmp_path / "known_hosts").read_text() == f"bob {other}"

    async def test_changed_key_of_a_peer_under_a_new_name_is_refused(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
        (tmp_path / "known_hosts").write_text(f"{nodes[1].address} {other}")
        with pytest.raises(HostKeyError, match="has changed"):
            async with connected(nodes, server, KnownHosts(tmp_path / "known_hosts"), trust=True):
                pass

    async def test_revoked_key_is_refused(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        keys = [key.with_suffix(".pub").read_text() for key in server.host_keys]
        (tmp_path / "known_hosts").write_text("".join(f"@revoked * {key}" for key in keys))
        with pytest.raises((asyncssh.HostKeyNotVerifiable, HostKeyError)) as caught:
            async with connected(nodes, server, KnownHosts(tmp_path / "known_hosts"), trust=True):
                pass
        assert "revoked" in words_of(caught.value)

    async def test_authority_vouches_for_a_host(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        authority = keygen(tmp_path / "ca")
        public = server.host_keys[0].with_suffix(".pub")
        assert said_by("ssh-keygen", "-q", "-s", authority, "-I", "x", "-h", "-n", "bob", public).returncode == 0
        certificate = public.with_name(f"{server.host_keys[0].name}-cert.pub")
        server.configure(f"HostCertificate {certificate}")
        (tmp_path / "known_hosts").write_text(f"@cert-authority * {authority.with_suffix('.pub').read_text()}")
        try:
            async with connected(nodes, server, KnownHosts(tmp_path / "known_hosts"), trust=False):
                pass
        finally:
            certificate.unlink()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not path.exists():
        assert process.poll() is None
    yield str(path)
    process.terminate()
    process.wait()


class TestLogin:
    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
    async def test_key_of_a_file(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path, kind: str
    ) -> None:
        key = keygen(tmp_path / "key", kind)
        server.authorized.write_text(key.with_suffix(".pub").read_text())
        async with connected(nodes, server, login=Login(keys=[key])) as connection:
            assert (await connection.run("echo in")).stdout == "in\n"

    @pytest.mark.parametrize("algorithm", ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"])
    async def test_key_of_rsa_with_each_of_its_signatures(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, folder: Path, algorithm: str
    ) -> None:
        server.authorized.write_text((folder / "host_rsa.pub").read_text())
        server.configure(f"PubkeyAcceptedAlgorithms {algorithm}")
        login = Login(keys=[folder / "host_rsa"])
        async with connected(nodes, server, login=login, signature_algs=[algorithm]):
            pass

    async def test_key_that_the_agent_holds(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path, agent: str
    ) -> None:
        key = keygen(tmp_path / "key")
        server.authorized.write_text(key.with_suffix(".pub").read_text())
        assert said_by("env", f"SSH_AUTH_SOCK={agent}", "ssh-add", "-q", key).returncode == 0
        key.unlink()
        async with connected(nodes, server, login=Login(agent=agent)) as connection:
            assert (await connection.run("echo in")).stdout == "in\n"

    @pytest.mark.parametrize("is_lent", [True, False])
    async def test_agent_is_lent_to_what_runs_there_if_that_is_wanted(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path, agent: str, *, is_lent: bool
    ) -> None:
        key = keygen(tmp_path / "key")
        assert said_by("env", f"SSH_AUTH_SOCK={agent}", "ssh-add", "-q", key).returncode == 0
        options = {"agent_forwarding": agent} if is_lent else {}
        login = Login(keys=[server.user_key], agent=agent)
        async with connected(nodes, server, login=login, **options) as connection:
            done = await connection.run("echo ${SSH_AUTH_SOCK-none}; ssh-add -L")
        public = key.with_suffix(".pub").read_text().split()[1]
        assert (public in str(done.stdout)) == is_lent
        assert str(done.stdout).startswith("none\n") != is_lent

    async def test_agent_that_has_gone_is_as_good_as_none(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        login = Login(keys=[server.user_key], agent=str(tmp_path / "nothing"))
        async with connected(nodes, server, login=login):
            pass

    async def test_passphrase_is_asked_for_and_a_wrong_one_again(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        key = keygen(tmp_path / "key", passphrase="correct horse")
        server.authorized.write_text(key.with_suffix(".pub").read_text())
        answers = ["wrong horse", "correct horse"]

        async def ask(prompt: str) -> str | None:
            assert str(key) in prompt
            return answers.pop(0)

        async with connected(nodes, server, login=Login(keys=[key], ask=ask)):
            pass
        assert answers == []

    async def test_nobody_is_asked_for_a_passphrase_while_another_key_will_do(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        async def ask(prompt: str) -> str | None:
            raise AssertionError(prompt)

        locked = keygen(tmp_path / "key", passphrase="correct horse")
        async with connected(nodes, server, login=Login(keys=[locked, server.user_key], ask=ask)):
            pass

    async def test_strange_key_is_refused_in_one_line(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        login = Login(keys=[keygen(tmp_path / "key")])
        with pytest.raises(asyncssh.PermissionDenied) as caught:
            async with connected(nodes, server, login=login):
                pass
        assert (
            words_of(caught.value) == "permission denied: the server takes neither the keys nor the password there were"
        )

    async def test_node_logs_in_for_a_program(self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh) -> None:
        listener = await server.serve(nodes[1], 2222)
        async with nodes[0].ssh("bob", 2222, keys=[server.user_key], trust=True) as connection:
            assert (await connection.run("echo $((6 * 7))", check=True)).stdout == "42\n"
        listener.close()
        await server.ended()


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5_000_011])
    async def test_both_ways_byte_for_byte(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path, size: int
    ) -> None:
        data = Random(size).randbytes(size)
        (tmp_path / "here").write_bytes(data)
        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            assert sftp.version == 3
            await Trees(sftp, "bob").upload([tmp_path / "here"], str(tmp_path / "there"))
            await Trees(sftp, "bob").download([str(tmp_path / "there")], tmp_path / "back")
        assert (tmp_path / "there").read_bytes() == data
        assert (tmp_path / "back").read_bytes() == data
        assert names_in(tmp_path) == ["back", "here", "there"]

    @pytest.mark.parametrize("direction", ["download", "upload"])
    async def test_server_that_dies_in_the_middle_costs_only_the_rest(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path, direction: str
    ) -> None:
        size = 24_000_000
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(Random(3).randbytes(size))

        async def copy(sftp: asyncssh.SFTPClient, told: Any) -> Any:
            trees = Trees(sftp, "bob", told=told)
            if direction == "upload":
                return await trees.upload([source], str(target))
            return await trees.download([str(source)], target)

        def die(done: int, _: int | None) -> None:
            if done > size // 2:
                server.kill()

        with pytest.raises((asyncssh.Error, OSError)) as caught:
            async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
                await copy(sftp, die)
        assert words_of(caught.value) in {"the connection broke off", "connection reset by peer"}
        assert not target.exists()
        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            report = await copy(sftp, None)
        assert target.read_bytes() == source.read_bytes()
        assert report.resumed_from_bytes > size // 2 - (IN_FLIGHT + 1) * BLOCK_BYTES > 0
        assert names_in(tmp_path) == ["source", "target"]

    async def test_tree_both_ways(self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        (tree / "deep" / "er").mkdir(parents=True)
        (tree / "empty").mkdir()
        for number, name in enumerate(["a", "deep/b c", "deep/er/ümläut", "deep/er/-n", "deep/\n"]):
            (tree / name).write_bytes(Random(number).randbytes(40_000 * number))
        (tree / "a").chmod(0o755)
        (tree / "link").symlink_to("a")
        (tree / "circle").symlink_to(".")
        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            up = await Trees(sftp, "bob", recursive=True).upload([tree], str(tmp_path / "there"))
            down = await Trees(sftp, "bob", recursive=True).download([str(tmp_path / "there")], tmp_path / "back")
            again = await Trees(sftp, "bob", recursive=True, resume=True).download(
                [str(tmp_path / "there")], tmp_path / "back2"
            )
            (tmp_path / "back2" / "a").write_text("other")
            third = await Trees(sftp, "bob", recursive=True, resume=True).download(
                [f"{tmp_path}/there/*"], tmp_path / "back2"
            )
        assert up.left_out == [f"{tree / 'circle'}: is a link to a folder"]
        assert (up.files, down.files, down.left_out, again.unchanged) == (6, 6, [], 0)
        assert (third.files, third.unchanged) == (1, 5)
        (tree / "circle").unlink()
        for copy in ("there", "back", "back2"):
            compared = said_by("diff", "-r", tree, tmp_path / copy)
            assert compared.stdout + compared.stderr == ""
        assert os.access(tmp_path / "back" / "a", os.X_OK)
        assert not os.access(tmp_path / "back" / "deep" / "b c", os.X_OK) or os.geteuid() == 0

    async def test_what_can_not_be_copied_is_left_out_and_named(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "good").write_text("good")
        os.mkfifo(tmp_path / "tree" / "pipe")
        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            trees = Trees(sftp, "bob", recursive=True)
            report = await trees.download([str(tmp_path / "tree"), str(tmp_path / "nothing")], tmp_path)
        assert report.files == 1
        assert report.left_out == [
            f"bob:{tmp_path}/tree/pipe: is no file",
            f"bob:{tmp_path}/nothing: no such file",
        ]

    async def test_copy_to_a_device_leaves_it_one(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        (tmp_path / "here").write_bytes(b"x" * 100_000)
        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            await Trees(sftp, "bob").upload([tmp_path / "here"], "/dev/null")
            await Trees(sftp, "bob").download([str(tmp_path / "here")], Path("/dev/null"))
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    async def test_link_over_there_stays_and_what_it_leads_to_is_written(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        (tmp_path / "here").write_text("new")
        (tmp_path / "file").write_text("old")
        (tmp_path / "link").symlink_to("file")
        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            await Trees(sftp, "bob").upload([tmp_path / "here"], str(tmp_path / "link"))
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_text() == "new"

    async def test_file_that_changes_while_it_is_copied_is_refused(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(bytes(8_000_000))

        def change(done: int, _: int | None) -> None:
            if 0 < done < 1_000_000:
                os.utime(source, (1, 1))

        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            report = await Trees(sftp, "bob", told=change).download([str(source)], tmp_path / "target")
            assert report.left_out == [f"bob:{source}: it was changed there while it was copied; copy it again"]
            assert not (tmp_path / "target").exists()
            report = await Trees(sftp, "bob").download([str(source)], tmp_path / "target")
        assert report.resumed_from_bytes == 0
        assert (tmp_path / "target").read_bytes() == source.read_bytes()

    async def test_attributes_and_folders(
        self, nodes: tuple[weft.Node, weft.Node], server: OpenSsh, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_text("a")
        async with connected(nodes, server) as connection, connection.start_sftp_client() as sftp:
            await sftp.chmod(str(tmp_path / "a"), 0o640)
            await sftp.utime(str(tmp_path / "a"), (10, 20))
            await sftp.mkdir(str(tmp_path / "b"))
            await sftp.rename(str(tmp_path / "a"), str(tmp_path / "b" / "a"))
            await sftp.symlink("a", str(tmp_path / "b" / "l"))
            assert await sftp.readlink(str(tmp_path / "b" / "l")) == "a"
            attrs = await sftp.stat(str(tmp_path / "b" / "l"))
            assert (attrs.size, attrs.mtime, (attrs.permissions or 0) & 0o777) == (1, 20, 0o640)
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp.rmdir(str(tmp_path / "b"))
            for name in ("l", "a"):
                await sftp.remove(str(tmp_path / "b" / name))
            await sftp.rmdir(str(tmp_path / "b"))
        assert names_in(tmp_path) == []
