"""OpenSSH's server behind a port of the network: one `sshd -i` for each connection, with a configuration of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.system.lab import Host
from tests.system.process import Process

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
ACCOUNT = 60_123
"""Number of the account that a daemon knows besides those of this machine."""
PUMPED_BYTES = 262_144


def keygen(path: Path, kind: str = "ed25519", *, passphrase: str = "") -> Path:
    """Make a key pair; the path of the private key."""
    size = ["-b", "2048"] if kind == "rsa" else []
    words = ["ssh-keygen", "-q", "-t", kind, *size, "-f", str(path), "-N", passphrase, "-C", ""]
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
        self._handlers: set[asyncio.Task[None]] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
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
        for process in self._processes:
            process.kill()

    async def ended(self) -> None:
        """Return when nothing of it runs any more."""
        self.kill()
        while self._handlers:
            await asyncio.wait(self._handlers)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        ours, theirs = socket.socketpair()
        process = self._start(theirs)
        theirs.close()
        self._processes.append(process)
        inner_reader, inner_writer = await asyncio.open_connection(sock=ours)
        pumps = {
            asyncio.create_task(pump(reader, inner_writer)),
            asyncio.create_task(pump(inner_reader, writer)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in pumps:
                each.cancel()
            writer.close()
            inner_writer.close()
            process.kill()
            await asyncio.to_thread(process.wait)
            self._processes.remove(process)
            self._handlers.discard(handler)

    def _start(self, end: socket.socket) -> subprocess.Popen[bytes]:
        assert SSHD is not None
        command = [SSHD, "-i", "-f", str(self.folder / "sshd_config"), "-E", str(self.log)]
        return subprocess.Popen(command, stdin=end, stdout=end)

    def _key(self, kind: str) -> Path:
        path = self.folder / f"host_{kind}"
        return path if path.exists() else keygen(path, kind)


def start_sshd(host: Host, server: OpenSsh, *listen: str, account: str, password: str = "") -> Process:
    """Run the server as a daemon on a host, where there is one more account, and root's home is the server's folder.

    Args:
        host: on which.
        server: with its keys.
        *listen: as `ListenAddress` has it.
        account: name of the account.
        password: of it; none logs in by one if it is "".
    """
    words = ["openssl", "passwd", "-6", password]
    hashed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() if password else "*"
    home = server.folder / account
    home.mkdir()
    os.chown(home, ACCOUNT, ACCOUNT)
    lines = {"passwd": f"{account}:x:{ACCOUNT}:{ACCOUNT}::{home}:/bin/sh", "shadow": f"{account}:{hashed}:1::::::"}
    for name, line in lines.items():
        told = Path("/etc", name).read_text().replace(":/root:", f":{server.folder}:", 1)
        (server.folder / name).write_text(f"{told}{line}\n")
    server.configure(*(f"ListenAddress {address}" for address in listen), "PasswordAuthentication yes", "LogLevel INFO")
    mounts = "; ".join(f"mount --bind {server.folder}/{name} /etc/{name}" for name in lines)
    program = f"set -e; {mounts}; exec {SSHD} -D -e -f {server.folder}/sshd_config"
    daemon = host.start("unshare", "-m", "sh", "-c", program, name="sshd")
    daemon.wait_for("listening")
    return daemon


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes until there are no more."""
    with suppress(OSError):
        while data := await reader.read(PUMPED_BYTES):
            writer.write(data)
            await writer.drain()
