"""OpenSSH's server behind a port of the network: one `sshd -i` for each connection, with a configuration of its own."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
HAS_OPENSSH = SSHD is not None and SFTP_SERVER.exists() and shutil.which("ssh-keygen") is not None
USER = getpass.getuser()
PUMPED_BYTES = 262_144


def keygen(path: Path, kind: str = "ed25519", *more: str, passphrase: str = "") -> Path:
    """Make a key pair; the path of the private key."""
    words = ["ssh-keygen", "-q", "-t", kind, "-f", str(path), "-N", passphrase, "-C", "", *more]
    subprocess.run(words, check=True)
    return path


class OpenSsh:
    """A server with keys in a folder.

    Args:
        folder: for what it needs.
        lines: more of sshd_config, such as `Ciphers aes128-ctr`.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "sshd.log"
        self.host_keys = [self._key("ed25519"), self._key("rsa")]
        self.user_key = keygen(folder / "user") if not (folder / "user").exists() else folder / "user"
        self.authorized = folder / "authorized_keys"
        self.authorized.write_text((folder / "user.pub").read_text())
        self.pumps: set[asyncio.Task[None]] = set()
        self.processes: list[asyncio.subprocess.Process] = []
        self.configure(*lines)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def configure(self, *lines: str) -> None:
        """Write its configuration; what is given comes first, and so counts."""
        config = [
            *lines,
            *(f"HostKey {key}" for key in self.host_keys),
            f"AuthorizedKeysFile {self.authorized}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "LogLevel DEBUG1",
            f"Subsystem sftp {SFTP_SERVER}",
            "PidFile none",
        ]
        (self.folder / "sshd_config").write_text("\n".join(config) + "\n")

    async def serve(self, network: Any, port: int = 22) -> asyncio.AbstractServer:
        """Take connections there."""
        server: asyncio.AbstractServer = await network.start_server(self._handle, None, port)
        return server

    def kill(self) -> None:
        """End all connections as a power cut would."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.kill()
        for pump in self.pumps:
            pump.cancel()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours, theirs = socket.socketpair()
        assert SSHD is not None
        process = await asyncio.create_subprocess_exec(
            *(SSHD, "-i", "-f", str(self.folder / "sshd_config"), "-E", str(self.log)), stdin=theirs, stdout=theirs
        )
        theirs.close()
        self.processes.append(process)
        inner_reader, inner_writer = await asyncio.open_connection(sock=ours)
        pumps = [
            asyncio.create_task(pump(reader, inner_writer)),
            asyncio.create_task(pump(inner_reader, writer)),
        ]
        self.pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for each in pumps:
                each.cancel()
        finally:
            writer.close()
            inner_writer.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            self.pumps.difference_update(pumps)

    def _key(self, kind: str) -> Path:
        path = self.folder / f"host_{kind}"
        return path if path.exists() else keygen(path, kind)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes until there are no more."""
    with suppress(OSError):
        while data := await reader.read(PUMPED_BYTES):
            writer.write(data)
            await writer.drain()
