"""Known hosts: which key an SSH server had before, in files as OpenSSH has them.

| the key that a server shows           | what is done                                               |
|---------------------------------------|------------------------------------------------------------|
| is known of the name or the address   | go on                                                      |
| others are, or it is revoked          | refuse: the server, or who answers in its place, changed   |
| nothing is known                      | ask, or do as told; if it is trusted, it is known then     |

All files are read, and the first one is written. What is learned is noted under the name as it was typed and under the
address: a peer's address in the network is made from its key, so that one entry serves under all its names.

Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
Not done here: the check itself, which is asyncssh's (client.py asks for it).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from weft.errors import ConfigError

FILE_NAME = "known_hosts"
"""Of the node's own file, in its directory."""
SSH_PORT = 22


class KnownHosts:
    """The keys of hosts.

    Args:
        own: file that new ones are written to; None keeps them for as long as this object is there.
        others: further files that are read.
    """

    def __init__(self, own: Path | None = None, others: Sequence[Path] = ()) -> None:
        self._own = own
        self._others = tuple(others)
        self._learned = ""

    def __repr__(self) -> str:
        return f"<KnownHosts {self.place}>"

    @property
    def place(self) -> str:
        """Where what is learned goes, for people."""
        return str(self._own) if self._own is not None else "nowhere"

    def match(
        self, host: str, address: str, port: int | None
    ) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
        """What is known of a host: its keys, those of authorities that may vouch for it, and revoked ones.

        Args:
            host: as it was typed.
            address: of the connection; "" if there is none yet.
            port: None for the one of SSH.

        Raises:
            ConfigError: a file can't be read, or there is something else in it.
        """
        keys: list[asyncssh.SSHKey] = []
        authorities: list[asyncssh.SSHKey] = []
        revoked: list[asyncssh.SSHKey] = []
        for known in self._read():
            found = known.match(host, address, None if port == SSH_PORT else port)
            keys += found[0]
            authorities += found[1]
            revoked += found[2]
        return keys, authorities, revoked

    def knows(self, host: str, address: str, port: int | None) -> bool:
        """Whether a host has been seen before, or an authority vouches for it."""
        keys, authorities, _ = self.match(host, address, port)
        return bool(keys or authorities)

    def add(self, host: str, address: str, port: int, key: asyncssh.SSHKey) -> None:
        """Know a key from now on.

        Raises:
            OSError: it can't be written down.
        """
        names = dict.fromkeys(name if port == SSH_PORT else f"[{name}]:{port}" for name in (host, address) if name)
        line = f"{','.join(names)} {key.export_public_key('openssh').decode('ascii').strip()}\n"
        if self._own is None:
            self._learned += line
            return
        descriptor = os.open(self._own, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            # A file that somebody edited may end without a newline.
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = f"\n{line}"
            file.write(line.encode())

    def _read(self) -> list[asyncssh.SSHKnownHosts]:
        known = [asyncssh.import_known_hosts(self._learned)]
        for path in (self._own, *self._others):
            if path is None:
                continue
            try:
                known.append(asyncssh.import_known_hosts(path.read_text("utf-8")))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigError(f"can't be read: {error.strerror}", file=str(path)) from error
            except ValueError as error:
                raise ConfigError(f"is no list of known hosts: {error}", file=str(path)) from error
        return known


def known_hosts(directory: Path | None) -> KnownHosts:
    """Those of a node: its own, the person's, and the machine's.

    Args:
        directory: of the node; None for one that keeps nothing, which learns for as long as it runs.
    """
    others = (Path.home() / ".ssh" / FILE_NAME, Path("/etc/ssh/ssh_known_hosts"))
    return KnownHosts(directory / FILE_NAME if directory is not None else None, others)
