"""Two daemons without any right: TLS, SSH and files between two people, who need nothing of this machine.

What is a socket of the system elsewhere is one inside the daemon, which the commands use.
"""

from __future__ import annotations

import os
import pty
import re
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from showing import COMMAND_S, Host, Said, Wrong, check, environment, say, without_rights

LISTEN = "/ip4/127.0.0.1/udp/0"
FILM_BYTES = 32 * 2**20

people: list[Person] = []
typing = threading.Lock()
"""Held while a command runs: a daemon that is just being started is not seen."""


class Person(Host):
    """Who has a daemon in a directory of their own."""

    def run(self, *words: str, check_code: bool = True) -> str:
        with typing:
            return super().run(*words, check_code=check_code)

    @contextmanager
    def types_at_terminal(self, command: str) -> Iterator[Said]:
        """Run a command at a terminal, which is shown as it is where this is one; the block checks what stays there."""
        say(f"{self.name}$ {command}", style="1")
        with typing:
            shown = self._at_terminal(shlex.split(command))
        yield from self.shows(command, shown)

    def _at_terminal(self, words: list[str]) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*self.enter, *words],
            env=self.environment | {"TERM": "xterm", "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        # A terminal whose last user has gone gives an error on Linux, and nothing elsewhere.
        with suppress(OSError):
            while data := os.read(ours, 65536):
                shown += data
                if sys.stdout.isatty():
                    os.write(sys.stdout.fileno(), data)
        os.close(ours)
        output, _ = process.communicate(timeout=COMMAND_S)
        if process.returncode:
            raise Wrong(f"`{shlex.join(words)}` failed on {self.name}: {shown.decode(errors='replace')}")
        plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
        bars = re.findall(r"[^\r\n]*━[^\r\n]*/[\d.]+ .B[^\r\n]*", plain)
        check(bars, f"`{shlex.join(words)}` shows how far it is")
        return "\n".join([*bars[-1:], output.decode()])


def tell(directory: Path) -> None:
    """The story."""
    os.chdir(directory)
    home = {"HOME": str(directory), "SSH_AUTH_SOCK": ""}
    people.extend(
        Person(
            name,
            "127.0.0.1",
            directory / name,
            without_rights(),
            environment() | home | {"WEFT_DIR": str(directory / name)},
        )
        for name in ("alice", "bob")
    )
    alice, bob = people
    say(
        "# Two daemons without any right: the network is inside them, and commands and programs use it there.",
        style="2",
    )
    for person in people:
        person.run("weft", "init")
        person.run("weft", "config", "set", "peer.listen", LISTEN)
        show_up(person)
    connect(alice, bob)
    show_tls(alice, bob)
    show_ssh(alice, bob)
    show_files(alice, bob)
    for person in people:
        with person.types("weft down") as said:
            said.line("weft is down")


def end() -> None:
    """End the daemons, if this ends in the middle."""
    with typing:
        for person in people:
            Host.run(person, "weft", "down", check_code=False)


def show_up(person: Person) -> None:
    with person.types("weft up --tun userspace-networking") as said:
        (address,) = said.line(r"weft is up: (\S+) on the stack")
        person.learn()
        check(address == person.address, f"{address} is the address of {person.name}")


def connect(alice: Person, bob: Person) -> None:
    (multiaddr,) = bob.info["multiaddrs"]
    with alice.types(f"weft peer connect {multiaddr} --name bob") as said:
        address, endpoint = said.line(r"connected to bob (\S+) via direct (\S+)")
        check(address == bob.address, f"{address} is Bob's address")
        check(multiaddr.startswith("/ip4/{}/udp/{}/".format(*endpoint.split(":"))), f"{endpoint} is where Bob listens")
    bob.run("weft", "peer", "set", alice.address, "--name", "alice")


def show_tls(alice: Person, bob: Person) -> None:
    say(
        "# A folder, with TLS. Alice has the certificate's file from Bob, as she might from any server of the web.",
        style="2",
    )
    token = secrets.token_hex(8)
    Path("site").mkdir()
    Path("site/hello.txt").write_text(f"hello over TLS, {token}\n")
    with bob.types_in_background("weft serve 443 --dir site --tls", lambda said: "port 443 is open" in said):
        say()
        with alice.types(f"weft fetch https://[{bob.address}]/hello.txt --ca bob/serve_cert.pem") as said:
            said.line(f"hello over TLS, {token}")


def show_ssh(alice: Person, bob: Person) -> None:
    say("# SSH without a password or a key: Bob's node knows who Alice is.", style="2")
    one, other = secrets.randbelow(1000), secrets.randbelow(1000)
    with bob.types_in_background("weft ssh-server alice", lambda said: "port 22 is open" in said):
        say()
        with alice.types(f"weft ssh --accept-new bob 'echo $(({one} * {other})), for ${{SSH_CLIENT%% *}}'") as said:
            said.line(f"{one * other}, for {alice.address}")


def show_files(alice: Person, bob: Person) -> None:
    say(f"# A file of {FILM_BYTES >> 20} MiB, to a person who waits for it.", style="2")
    Path("film.mkv").write_bytes(secrets.token_bytes(FILM_BYTES))
    Path("inbox").mkdir()
    told = rf"1 file, {FILM_BYTES >> 20}.0 MiB in [\d.]+ s"
    receiving = bob.types_in_background("weft receive inbox --from alice", lambda said: "on port 1313" in said)
    with receiving as running:
        say()
        with alice.types_at_terminal("weft send film.mkv bob") as said:
            said.line(rf"film.mkv +━+.* {FILM_BYTES / 1e6:.1f}/{FILM_BYTES / 1e6:.1f} MB .*")
            said.line(told)
        came = running.end().splitlines()[-1]
    check(re.fullmatch(rf"inbox/film.mkv from alice: {told}", came), "Bob was told what came")
    check(Path("inbox/film.mkv").read_bytes() == Path("film.mkv").read_bytes(), "Bob has the same file")
