"""Daemons and commands that start at once: a process that has loaded all of weft, and forks into what it is told.

    start_daemon(host, directory, environment)
    outcome_of(host, ["--dir", "/tmp/alice", "info"], environment)
    started(host, ["--dir", "/tmp/alice", "serve", "8080"], environment)

To load what it needs takes four fifths of a daemon's start, and nearly all of a command's time. What is forked calls
the same `main` with the same arguments, in a session of its own, and in the host as `ip netns exec` would put it there.
What depends on the loading itself is for the tests that run the command from a shell: the examples, the pages, the
demo. With a directory of nobody, it is nobody who does it, in the sandbox of `sandbox.py`.

Each request is one message on a socket: JSON, and with it the descriptors of the standard streams and of a pipe that
gets the id of the process in a line, and its exit code when it has ended.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from select import select
from typing import IO, Any, BinaryIO, NoReturn

from tests.system.lab import Host
from tests.system.process import COMMAND_S, Outcome, Process
from tests.system.sandbox import become_nobody
from weft.testing.device import inside_namespace

NEEDED = (
    *("asyncssh", "weft.clients.sftp.shell", "weft.clients.sftp.tree", "weft.clients.ssh.client"),
    *("weft.api.loopback", "weft.api.serve", "weft.cli.attached", "weft.cli.socket_service", "weft.engine.engine"),
)
"""What commands load when they run; the commands themselves are in a table."""
MESSAGE_BYTES = 1 << 16
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE, MNT_DETACH = 0x1000, 0x4000, 0x80000, 2

making = threading.Lock()


class Forked:
    """A process of the nursery, with the face of `subprocess.Popen`."""

    stdin = None

    def __init__(self, told: BinaryIO) -> None:
        self._told = told
        self.pid = int(told.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid} of the nursery", timeout or 0)
            self.returncode = int(self._told.read())
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_daemon(host: Host, directory: Path, environment: Mapping[str, str]) -> None:
    """Start `weft daemon` as `weft up` does, with its output in daemon.log; whether it runs, its socket says."""
    log = directory / "daemon.log"
    log.touch(mode=0o600)
    with log.open("ab") as output, open(os.devnull, "ab") as nobody:
        _ask([host.namespace, ["--dir", str(directory), "daemon"], environment, None], [output, output], nobody)


def outcome_of(
    host: Host, arguments: Sequence[str], environment: Mapping[str, str], of_nobody: Path | None = None
) -> Outcome:
    """Run a command to its end, however that is."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _begun(host, arguments, environment, of_nobody, [out, err]).wait(COMMAND_S)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return Outcome(code, *said)


def started(
    host: Host, arguments: Sequence[str], environment: Mapping[str, str], of_nobody: Path | None = None
) -> Process:
    """Start a command that goes on until it is stopped."""

    def start(output: Path) -> Process:
        name = f"{host.name}: weft {' '.join(arguments)}"
        return Process(name, output, lambda file: _begun(host, arguments, environment, of_nobody, [file, file]))

    return host.lab.keep(start)


def _begun(
    host: Host,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    of_nobody: Path | None,
    output: Sequence[IO[bytes]],
) -> Forked:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb") as tells:
        _ask([host.namespace, arguments, environment, of_nobody and str(of_nobody)], output, tells)
    # Not buffered, or `select` would not see what was read with the line before.
    return Forked(os.fdopen(ours, "rb", buffering=0))


def _ask(request: Sequence[object], output: Sequence[IO[bytes]], tells: IO[bytes]) -> None:
    with open(os.devnull, "rb") as nothing, making:
        files = (nothing, *output, tells)
        socket.send_fds(nursery(), [json.dumps(request).encode()], [file.fileno() for file in files])


@cache
def nursery() -> socket.socket:
    """The way to the process that forks, which ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        words = [sys.executable, "-m", "tests.system.nursery", str(theirs.fileno())]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def main(way: socket.socket) -> None:
    root = importlib.import_module("weft.cli.root")
    commands = (where.partition(":")[0] for group in root.COMMANDS.values() for where, _ in group.values())
    for name in (*NEEDED, *commands):
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, *_ = socket.recv_fds(way, MESSAGE_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            way.close()
            _ending(_run, json.loads(request), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _ending(work: Callable[..., int], *arguments: object) -> NoReturn:
    """Do something as the last thing in this process."""
    code = 1
    try:
        code = work(*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _run(request: Sequence[Any], descriptors: Sequence[int]) -> int:
    """Run a command in one more process, and tell of it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, told = descriptors
    if (child := os.fork()) == 0:
        os.setsid()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        _ending(_command, *request)
    for descriptor in streams:
        os.close(descriptor)
    with suppress(BrokenPipeError):
        os.write(told, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    return 0


def _command(namespace: str, arguments: list[str], environment: dict[str, str], of_nobody: str | None) -> NoReturn:
    os.environ.update(environment)
    with inside_namespace(namespace):
        _see_files_of(namespace)
        if of_nobody:
            become_nobody(Path(of_nobody))
        # The process ends in there, for nobody may not leave it.
        _ending(importlib.import_module("weft.cli").main, arguments)


def _see_files_of(namespace: str) -> None:
    """Have the files that differ between hosts; see ip-netns(8)."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        assert getattr(libc, name)(*arguments) == 0, os.strerror(ctypes.get_errno())

    call("unshare", CLONE_NEWNS)
    call("mount", b"", b"/", None, MS_SLAVE | MS_REC, None)
    call("umount2", b"/sys", MNT_DETACH)
    call("mount", namespace.encode(), b"/sys", b"sysfs", 0, None)
    for file in Path("/etc/netns", namespace).glob("*"):
        call("mount", bytes(file), os.fsencode(f"/etc/{file.name}"), b"none", MS_BIND, None)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
