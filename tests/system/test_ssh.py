"""SSH between machines with a TUN each: our commands and OpenSSH's server, our server and OpenSSH's commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.interop.openssh import OpenSsh, keygen, start_sshd
from tests.system.node import Node, Pair, connected_pair
from tests.system.process import Outcome, Process
from tests.system.waiting import until
from tests.unit.cli.pseudo_terminal import PseudoTerminal

pytestmark = [
    pytest.mark.system("sshd", "ssh", "sftp", "scp", "ssh-keygen", "rsync", "openssl", "unshare"),
    pytest.mark.timeout(120),
]

PASSWORD = "correct horse"
SIZE = 48_000_000
PORT = 2222
OURS = 2022


class Desk:
    """Alice with a home of her own, at the machine on which her commands run; bob's server behind the tunnel."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair, self.folder = pair, folder
        self.home = folder / "home"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.server = OpenSsh(folder / "sshd")
        self.key = self.server.user_key
        self.known = pair.alice.directory / "known_hosts"
        where = f"[{self.bob}]:{PORT}"
        self.daemon = start_sshd(pair.bob.host, self.server, where, account="weaver", password=PASSWORD)

    @property
    def bob(self) -> str:
        return self.pair.bob.address

    def words(self, *arguments: str) -> list[str]:
        """A `weft` command of hers."""
        return self.pair.alice.command(*arguments, **self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "SSH_AUTH_SOCK": ""}

    def outcome(self, *arguments: str) -> Outcome:
        """How a command of hers ends."""
        return self.pair.alice.outcome(*arguments, **self.environment)

    def weft(self, name: str, *arguments: str) -> Outcome:
        """How one ends that logs in with her key."""
        return self.outcome(name, "-p", str(PORT), "-i", str(self.key), "--accept-new", *arguments)

    def at_terminal(self, *arguments: str) -> PseudoTerminal:
        inside = ("ip", "netns", "exec", self.pair.alice.host.namespace)
        return PseudoTerminal((*inside, *self.words(*arguments)), columns=97, lines=31)

    def openssh(self, name: str, *arguments: str, port: int = OURS) -> Outcome:
        """How a command of OpenSSH's ends that has neither keys nor an agent."""
        options = ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={self.folder}/known"]
        flag = "-p" if name == "ssh" else "-P"
        return self.pair.alice.host.outcome(
            *("env", f"HOME={self.home}", "SSH_AUTH_SOCK=", name, *options, flag, str(port), *arguments)
        )


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with connected_pair() as pair:
        folder = pair.lab.directory("ssh")
        folder.chmod(0o755)
        pair.alice.name_peer(pair.bob, "bob")
        pair.bob.name_peer(pair.alice, "alice")
        yield Desk(pair, folder)


class TestOurSsh:
    """`weft ssh` and OpenSSH's server."""

    def test_streams_and_exit_code_are_those_of_the_command(self, desk: Desk) -> None:
        done = desk.weft("ssh", "bob", "echo out; echo err >&2; exit 7")
        assert done == (7, "out\n", "err\n")

    def test_standard_input_goes_there_byte_for_byte(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(Random(1).randbytes(3_000_000))
        command = " ".join(desk.words("ssh", "-p", str(PORT), "-i", str(desk.key), "--accept-new", "bob", "sha256sum"))
        for source in (f"< {tmp_path}/data", f"< <(cat {tmp_path}/data)"):
            said = desk.pair.alice.host.run("bash", "-c", f"{command} {source}; sha256sum < {tmp_path}/data")
            assert len(set(said.split()) - {"-"}) == 1

    def test_command_that_a_signal_ended_has_its_exit_code(self, desk: Desk) -> None:
        assert desk.weft("ssh", "bob", "kill -KILL $$").code == 128 + signal.SIGKILL

    def test_signal_goes_there(self, desk: Desk) -> None:
        waits = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
        # OpenSSH takes no signals for sessions of root.
        words = ("ssh", "-p", str(PORT), "-i", str(desk.key), "--accept-new", "weaver@bob", waits)
        process = desk.pair.alice.start(*words, **desk.environment)
        process.wait_for("ready")
        assert process.stop(signal.SIGTERM) == 5
        assert "got it" in process.output()

    def test_without_a_terminal_a_new_host_is_refused_in_one_line(self, desk: Desk) -> None:
        desk.known.unlink(missing_ok=True)
        command = desk.words("ssh", "-p", str(PORT), "-i", str(desk.key), "bob", "true")
        done = desk.pair.alice.host.outcome("setsid", "-w", *command)
        assert (done.code, done.out, done.err.count("\n")) == (255, "", 1)
        assert done.err.startswith("weft: bob is not known, and nobody says that its key ssh-ed25519 SHA256:")
        assert not desk.known.exists()

    def test_changed_host_key_is_refused_in_one_line(self, desk: Desk, tmp_path: Path) -> None:
        other = keygen(tmp_path / "other").with_suffix(".pub").read_text()
        desk.known.write_text(f"[bob]:{PORT} {other}")
        done = desk.weft("ssh", "bob", "true")
        desk.known.unlink()
        assert (done.code, done.out, done.err.count("\n")) == (255, "", 1)
        assert done.err.startswith(
            "weft: the key of bob has changed, or somebody answers in its place: it shows ssh-ed"
        )

    def test_key_in_the_home_is_found_and_a_strange_one_refused(self, desk: Desk) -> None:
        usual = keygen(desk.home / ".ssh" / "id_ed25519")
        words = desk.words("ssh", "-p", str(PORT), "--accept-new", "bob", "echo in")
        refused = desk.pair.alice.host.outcome("setsid", "-w", *words)
        assert (refused.code, refused.err) == (
            255,
            "weft: bob: permission denied: the server takes neither the keys nor the password there were\n",
        )
        with desk.server.authorized.open("a") as file:
            file.write(usual.with_suffix(".pub").read_text())
        assert desk.pair.alice.host.outcome("setsid", "-w", *words) == (0, "in\n", "")
        usual.unlink()

    def test_nobody_there_and_no_such_name_are_one_line(self, desk: Desk) -> None:
        assert desk.outcome("ssh", "-p", "9", "bob", "true") == (255, "", "weft: bob: connection refused\n")
        done = desk.weft("ssh", "nobody.weft", "true")
        assert (done.code, done.err.count("\n")) == (255, 1)

    def test_agent_is_lent_only_if_that_is_said(self, desk: Desk) -> None:
        words = ("-p", str(PORT), "-i", str(desk.key), "--accept-new", "bob", "ssh-add -L || true")
        without, with_it = (
            " ".join(shlex.quote(word) for word in desk.words("ssh", *lent, *words)).replace("SSH_AUTH_SOCK= ", "")
            for lent in ([], ["-A"])
        )
        script = f"ssh-add -q {desk.key} && {without} 2>&1; echo and; {with_it}"
        done = desk.pair.alice.host.outcome("ssh-agent", "sh", "-c", script)
        public = desk.key.with_suffix(".pub").read_text().split()[1]
        assert done.code == 0, done.err
        assert [public in part for part in done.out.split("and\n")] == [False, True]
        nobody = desk.outcome("ssh", "-A", *words)
        assert (nobody.code, nobody.err) == (255, "weft: there is no agent to lend: SSH_AUTH_SOCK is not set\n")

    def test_rsync_takes_it_for_ssh(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "from").mkdir()
        (tmp_path / "from" / "file").write_bytes(Random(4).randbytes(500_000))
        shell = " ".join(desk.words("ssh", "-p", str(PORT), "-i", str(desk.key), "--accept-new"))
        desk.pair.alice.host.run("rsync", "-a", "-e", shell, f"bob:{tmp_path}/from/", f"{tmp_path}/to")
        assert (tmp_path / "to" / "file").read_bytes() == (tmp_path / "from" / "file").read_bytes()


class TestAtTerminal:
    def test_shell(self, desk: Desk) -> None:
        """Asked about the host, as wide as the window, resized, interrupted, and with the exit code of the shell."""
        desk.known.unlink(missing_ok=True)
        with desk.at_terminal("ssh", "-p", str(PORT), "-i", str(desk.key), "bob") as terminal:
            terminal.wait_for(
                r"bob \(fc[0-9a-f:]+\) was not seen before; its key is\n  ssh-ed25519 SHA256:\S+\nTrust it"
            )
            terminal.send("yes\n")
            terminal.wait_for("[#$] ")
            terminal.send("PS1='<$?>'; stty -echo; echo $((1000 + 337)); stty size; echo $TERM\n")
            terminal.wait_for("1337\n(.|\n)*31 97\n(.|\n)*xterm")
            terminal.resize(123, 45)
            terminal.send("sleep 0.2; stty size\n")
            terminal.wait_for("45 123")
            terminal.send("sh -c 'echo $((40 + 2)); exec sleep 1000'\n")
            terminal.wait_for("42")
            terminal.send("\x03")
            terminal.wait_for("<130>")
            terminal.send("exit 7\n")
            assert terminal.end() == 7
        assert f"[bob]:{PORT},[{desk.bob}]:{PORT} ssh-ed25519 " in desk.known.read_text()

    def test_no_is_no(self, desk: Desk) -> None:
        desk.known.unlink(missing_ok=True)
        with desk.at_terminal("ssh", "-p", str(PORT), "-i", str(desk.key), "bob", "echo in") as terminal:
            terminal.wait_for("yes/no")
            terminal.send("no\n")
            assert terminal.end() == 255
            assert "in\n" not in terminal.seen.replace("in its", "")
        assert not desk.known.exists()

    def test_password_is_typed_unseen_and_a_wrong_one_asked_for_again(self, desk: Desk) -> None:
        with desk.at_terminal("ssh", "-p", str(PORT), "--accept-new", "weaver@bob", "id -un") as terminal:
            for password in ("wrong", PASSWORD):
                terminal.wait_for("Password of weaver on bob: ")
                terminal.send(f"{password}\n")
            terminal.wait_for("weaver\n")
            assert terminal.end() == 0
            assert PASSWORD not in terminal.seen

    def test_interrupt_of_a_question_ends_it(self, desk: Desk) -> None:
        with desk.at_terminal("ssh", "-p", str(PORT), "--accept-new", "weaver@bob") as terminal:
            terminal.wait_for("Password of weaver")
            terminal.send("\x03")
            assert terminal.end() == 130
            assert terminal.seen.endswith("weft: interrupted\n")

    def test_tilde_and_full_stop_end_the_connection(self, desk: Desk) -> None:
        with desk.at_terminal(
            "ssh", "-t", "-p", str(PORT), "-i", str(desk.key), "--accept-new", "bob", "echo ready; cat"
        ) as terminal:
            terminal.wait_for("ready")
            terminal.send("no ~.\n~~\n")
            terminal.wait_for("no ~.\n(.|\n)*~\n")
            terminal.send("~.")
            assert terminal.end() == 255

    def test_server_that_goes_away_is_told_and_the_terminal_is_as_before(self, desk: Desk) -> None:
        with desk.at_terminal(
            *("ssh", "-t", "-p", str(PORT), "-i", str(desk.key), "--accept-new", "bob"),
            "echo ready; sleep 0.3; kill -9 $PPID; sleep 9",
        ) as terminal:
            terminal.wait_for("ready")
            assert terminal.end() == 255
            assert re.search(r"weft: bob: (the connection broke off|connection reset by peer)\n", terminal.seen)


class TestFiles:
    """`weft scp` and `weft sftp`, and OpenSSH's server."""

    def test_tree_there_and_back(self, desk: Desk, tmp_path: Path) -> None:
        for number in range(12):
            path = tmp_path / "tree" / f"{number % 3}" / f"file {number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(Random(number).randbytes(number * 10_000))
        up = desk.weft("scp", "-r", "--json", f"{tmp_path}/tree", f"bob:{tmp_path}/there")
        assert up.code == 0, up.err
        down = desk.weft("scp", "-r", f"[{desk.bob}]:{tmp_path}/there", f"{tmp_path}/back")
        again = desk.weft("scp", "-r", "--resume", "--json", f"bob:{tmp_path}/there/*", f"{tmp_path}/back")
        assert json.loads(up.out)["files"] == 12
        assert re.fullmatch(r"12 files, \d+\.\d KiB in \d\.\d s\n", down.out)
        assert json.loads(again.out)["unchanged"] == 12
        for copy in ("there", "back"):
            assert desk.pair.alice.host.outcome("diff", "-r", f"{tmp_path}/tree", f"{tmp_path}/{copy}") == (0, "", "")

    @pytest.mark.parametrize("direction", ["down", "up"])
    def test_transfer_goes_on_after_the_server_was_gone(self, desk: Desk, tmp_path: Path, direction: str) -> None:
        (tmp_path / "source").write_bytes(Random(5).randbytes(SIZE))
        sides = (f"bob:{tmp_path}/source", f"{tmp_path}/copy")
        if direction == "up":
            sides = (f"{tmp_path}/source", f"bob:{tmp_path}/copy")
        words = ("scp", "-p", str(PORT), "-i", str(desk.key), "--accept-new", *sides)
        with desk.pair.alice.host.losing(0.02):
            process = desk.pair.alice.start(*words, **desk.environment)
            # How fast it goes with such losses is of no matter here.
            until(lambda: any(path.stat().st_size > SIZE // 4 for path in tmp_path.glob("copy*part")), "a part", 60)
            for pid in desk.pair.bob.host.run("pgrep", "-f", "sftp-server|sshd: ").split():
                os.kill(int(pid), signal.SIGKILL) if is_child_of(int(pid), desk.daemon.popen.pid) else None
            assert process.popen.wait(30) == 1
        assert process.output().count("\n") == 1
        assert not (tmp_path / "copy").exists()
        done = desk.weft("scp", "--json", *sides)
        assert json.loads(done.out)["resumed_from_bytes"] > SIZE // 4 - 9_000_000
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "source").read_bytes()
        assert sorted(os.listdir(tmp_path)) == ["copy", "source"]

    def test_progress_is_for_a_terminal(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(bytes(SIZE))
        sides = (f"{tmp_path}/source", f"bob:{tmp_path}/copy")
        with desk.at_terminal("scp", "-p", str(PORT), "-i", str(desk.key), "--accept-new", *sides) as terminal:
            terminal.wait_for(r"\d+\.\d/\d+\.\d MB")
            assert terminal.end() == 0
            assert "1 file, 45.8 MiB in" in terminal.seen

    def test_batch(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "a b").write_text("hello")
        lines = [
            *(f"lcd {tmp_path}", f"cd {tmp_path}", "pwd", "lpwd", "mkdir new", 'put "a b" new/c', "ls -l new"),
            *("chmod 600 new/c", "stat new/c", "rename new/c new/d", "get new/d here", "lls", "-rmdir new"),
            *("rm new/*", "rmdir new", "ls", "exit", "pwd"),
        ]
        (tmp_path / "batch").write_text("\n".join(lines))
        done = desk.weft("sftp", "-b", f"{tmp_path}/batch", "bob")
        assert done.code == 0, done.err
        assert done.err == "weft: bob: failure\n"
        said = [line.split()[0] if line.startswith("-") else line for line in done.out.splitlines()]
        here = ["a b", "batch", "here"]
        assert said == [*[str(tmp_path)] * 2, "-rw-r--r--", "-rw-------", *here, "new", *here]
        assert (tmp_path / "here").read_text() == "hello"

    def test_batch_ends_at_the_first_failure(self, desk: Desk, tmp_path: Path) -> None:
        command = " ".join(desk.words("sftp", "-p", str(PORT), "-i", str(desk.key), "--accept-new", "bob"))
        done = desk.pair.alice.host.outcome(
            "bash", "-c", f"printf 'cd {tmp_path}\\nrm none\\nmkdir made\\n' | {command}"
        )
        assert (done.code, done.out, done.err) == (1, "", "weft: bob: no such file\n")
        assert os.listdir(tmp_path) == []

    def test_names_that_would_move_the_cursor_are_shown_without(self, desk: Desk, tmp_path: Path) -> None:
        """What a server calls its files is text of its own choice, and need not be text at all."""
        tree = tmp_path / "tree"
        tree.mkdir()
        for name in (b"a\x1b[2Jb", b"c\nweft: done", b"d\xff\x9b"):
            os.mkfifo(os.fsencode(tree) + b"/" + name)
        listed = desk.pair.alice.host.outcome(
            "bash", "-c", f"echo 'ls {tree}' | {shlex.join(self.words(desk, 'sftp', 'bob'))}"
        )
        copied = desk.weft("scp", "-r", f"bob:{tree}", f"{tmp_path}/copy")
        told = desk.weft("scp", "-r", "--json", f"bob:{tree}", f"{tmp_path}/copy")
        assert [listed.code, copied.code, told.code] == [0, 1, 1], listed.err
        for text in (listed.out, copied.err, told.out):
            assert not {"\x1b", "\x9b"} & set(text)
        assert listed.out.splitlines() == ["a\ufffd[2Jb", "c", "    weft: done", "d\ufffd\ufffd"]
        assert copied.err.count("\n") == copied.err.count("weft: left out: ") == 3
        assert len(json.loads(told.out)["left_out"]) == 3

    def words(self, desk: Desk, name: str, *arguments: str) -> list[str]:
        return desk.words(name, "-p", str(PORT), "-i", str(desk.key), "--accept-new", *arguments)

    def test_conversation(self, desk: Desk, tmp_path: Path) -> None:
        with desk.at_terminal("sftp", "-p", str(PORT), "-i", str(desk.key), "--accept-new", "bob") as terminal:
            terminal.wait_for("sftp> ")
            terminal.send(f"cd {tmp_path}\n")
            terminal.wait_for("sftp> ")
            terminal.send("mkdir made\n")
            terminal.wait_for("sftp> ")
            terminal.send("\x03")
            terminal.wait_for("sftp> ")
            terminal.send("nonsense\n")
            terminal.wait_for("no command 'nonsense'(.|\n)*sftp> ")
            terminal.send("ls\n")
            terminal.wait_for("made\n(.|\n)*sftp> ")
            terminal.send("\x04")
            assert terminal.end() == 0


def is_child_of(pid: int, ancestor: int) -> bool:
    """Whether a process comes from another one, which it is not."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if pid == ancestor:
            return True
    return False


@pytest.fixture(scope="module")
def serving(desk: Desk) -> Iterator[Process]:
    yield (process := serve(desk.pair.bob, "alice"))
    process.stop(signal.SIGINT)


def serve(node: Node, *arguments: str, port: int = OURS) -> Process:
    """`weft ssh-server`."""
    process = node.start("ssh-server", "-p", str(port), *arguments)
    process.wait_for("is open for")
    return process


def test_server_says_for_whom_its_port_is_open(desk: Desk) -> None:
    bob = desk.pair.bob
    bob.weft("fc00", "deny", "/tcp/0")
    try:
        server = serve(bob, "alice", port=2299)
        said = server.wait_for("may log in")
        server.stop(signal.SIGINT)
    finally:
        bob.allow("/tcp/0")
    assert "port 2299 is open for nobody yet: `weft fc00 allow /tcp/2299` lets others in; alice may log in" in said


@pytest.mark.usefixtures("serving")
class TestOurServer:
    """`weft ssh-server` and OpenSSH's commands."""

    def test_streams_and_exit_code(self, desk: Desk) -> None:
        done = desk.openssh("ssh", desk.bob, "cat >&2; echo out; exit 7")
        assert (done.code, done.out) == (7, "out\n")

    def test_bulk_both_ways(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(Random(6).randbytes(5_000_000))
        assert desk.openssh("scp", f"{tmp_path}/data", f"[{desk.bob}]:{tmp_path}/there").code == 0
        assert desk.openssh("scp", "-O", f"[{desk.bob}]:{tmp_path}/there", f"{tmp_path}/back").code == 0
        assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()

    def test_terminal(self, desk: Desk) -> None:
        words = ("ip", "netns", "exec", desk.pair.alice.host.namespace, "env", f"HOME={desk.home}")
        options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", str(OURS))
        with PseudoTerminal((*words, "ssh", *options, desk.bob), columns=97, lines=31) as terminal:
            terminal.wait_for("[#$] ")
            terminal.send("PS1='<$?>'; stty -echo; stty size; tty; echo $TERM\n")
            terminal.wait_for("31 97\n(.|\n)*/dev/pts/\\d+\n(.|\n)*xterm")
            terminal.resize(123, 45)
            terminal.send("sleep 0.2; stty size\n")
            terminal.wait_for("45 123")
            terminal.send("sh -c 'echo $((40 + 2)); exec sleep 1000'\n")
            terminal.wait_for("42")
            terminal.send("\x03")
            terminal.wait_for("<130>")
            terminal.send("exit 7\n")
            assert terminal.end() == 7

    def test_process_ends_with_the_connection(self, desk: Desk) -> None:
        client = desk.pair.alice.host.start(
            *("ssh", "-tt", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", str(OURS)),
            *(desk.bob, "echo ready; sleep 4321"),
        )
        client.wait_for("ready")
        client.popen.kill()
        until(lambda: desk.pair.bob.host.outcome("pgrep", "-f", "^sleep 4321").code == 1, "the process has ended")

    def test_sftp(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "batch").write_text(
            f"cd {tmp_path}\nmkdir a\nput {tmp_path}/batch a/b\nrename a/b a/c\nls -l a\nget a/c {tmp_path}/d\n"
        )
        done = desk.openssh("sftp", "-b", f"{tmp_path}/batch", f"[{desk.bob}]")
        assert done.code == 0, done.err
        assert (tmp_path / "d").read_text() == (tmp_path / "batch").read_text()

    def test_our_own_client_logs_in_without_anything(self, desk: Desk) -> None:
        assert desk.outcome("ssh", "-p", str(OURS), "--accept-new", "bob", "echo in") == (0, "in\n", "")


def test_stranger_is_refused_in_one_line(desk: Desk) -> None:
    process = serve(desk.pair.bob, desk.pair.bob.id, port=OURS + 1)
    theirs = desk.openssh("ssh", desk.bob, "true", port=OURS + 1)
    ours = desk.outcome("ssh", "-p", str(OURS + 1), "--accept-new", "bob", "true")
    process.stop(signal.SIGINT)
    assert theirs.code == 255
    assert f"Peer {desk.pair.alice.address} is not allowed to log in here" in theirs.err
    assert ours == (255, "", f"weft: bob: peer {desk.pair.alice.address} is not allowed to log in here\n")
    assert f"{desk.pair.alice.address} is refused" in process.output()


def test_folder_is_all_that_there_is(desk: Desk, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc/hostname")
    (root / "out").symlink_to("/etc")
    process = serve(desk.pair.bob, "--sftp-root", str(root), "alice", port=OURS + 2)
    tries = ["get link got", "get out/hostname got", "get ../../../etc/hostname got", "get /etc/hostname got"]
    tries += ["symlink /etc new", "put batch out/x"]
    (tmp_path / "batch").write_text(
        "".join(f"-{line}\n" for line in [f"lcd {tmp_path}", *tries]) + "put batch in\nls\n"
    )
    done = desk.openssh("sftp", "-b", f"{tmp_path}/batch", f"[{desk.bob}]", port=OURS + 2)
    shell = desk.openssh("ssh", desk.bob, "id", port=OURS + 2)
    process.stop(signal.SIGINT)
    assert done.code == 0, done.err
    assert not (tmp_path / "got").exists()
    assert sorted(os.listdir(root)) == ["in", "link", "out"]
    assert (shell.code, shell.out, shell.err.splitlines()[-1]) == (1, "", "weft: only SFTP is served here")


def test_folder_with_the_nodes_key_in_it_is_not_given_away(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(desk.pair.bob.directory)
    for root in (desk.pair.bob.directory, desk.pair.bob.directory.parent, tmp_path / "link", Path("/")):
        done = desk.pair.bob.outcome("ssh-server", "--sftp-root", str(root), "alice")
        assert (done.code, done.out) == (2, "")
        assert re.fullmatch(rf"weft: {root} has \S+ in it, and so this node's key; give another folder\n", done.err)


def test_port_in_use_and_no_such_folder_are_one_line(desk: Desk, tmp_path: Path) -> None:
    process = serve(desk.pair.bob, "alice", port=OURS + 3)
    done = desk.pair.bob.outcome("ssh-server", "-p", str(OURS + 3), "alice")
    process.stop(signal.SIGTERM)
    assert done == (1, "", f"weft: port {OURS + 3}: address already in use\n")
    for wrong in (tmp_path / "nothing", Path("/etc/hostname")):
        done = desk.pair.bob.outcome("ssh-server", "--sftp-root", str(wrong), "alice")
        assert (done.code, done.err.count("\n")) == (1, 1)


def test_end_of_the_server_ends_what_runs(desk: Desk) -> None:
    """Asked by SIGTERM too, as a service is."""
    process = serve(desk.pair.bob, "alice", port=OURS + 4)
    client = desk.pair.alice.host.start(
        *("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", str(OURS + 4)),
        *(desk.bob, "echo ready; sleep 4322"),
    )
    client.wait_for("ready")
    process.stop(signal.SIGTERM)
    assert desk.pair.bob.host.outcome("pgrep", "-f", "^sleep 4322").code == 1
    client.popen.wait(10)


def test_unknown_peer_of_the_command_line_is_one_line(desk: Desk) -> None:
    done = desk.pair.bob.outcome("ssh-server", "nobody")
    assert done == (2, "", "weft: no peer 'nobody'; `weft peer list` shows those that there are\n")
