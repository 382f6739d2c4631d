"""What a service and systemd tell each other: how it is, that it lives, which descriptors it was given.

Both are environment variables that are read once and unset, so that no child takes them for its own. Without them, as
anywhere but under systemd, everything here does nothing.

    NOTIFY_SOCKET                          where messages go: a path, or `@` and an abstract name
    WATCHDOG_USEC, WATCHDOG_PID            how long systemd waits for a sign of life
    LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES how many descriptors follow from number 3 on, for whom, and their names
    JOURNAL_STREAM                         device and inode of the stream to the journal

Source: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5).
Not done here: when to say what (`weft.api.serve`), and the descriptor store.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from weft.errors import UsageError

Environment = MutableMapping[str, str]

FIRST_DESCRIPTOR = 3
MAX_DESCRIPTORS = 64


class Manager:
    """The service manager that started this process, if one did.

    Attributes:
        watchdog_s: how long it waits for `alive` before it takes the service for dead; None if it does not.
    """

    def __init__(self, environment: Environment = os.environ) -> None:
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment)

    def ready(self, status: str) -> None:
        """The service does its work, or does so again after `reloading`.

        Args:
            status: one line for `systemctl status`.
        """
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is read anew; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Replace the line that `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Say so, at least once in `watchdog_s`."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), self._address)
        except OSError:
            # Whoever does not listen does not want to know; the service goes on.
            pass


def take_descriptors(environment: Environment = os.environ) -> list[tuple[str, int]]:
    """The descriptors that this process was given; from now on they are the caller's.

    Returns:
        Name and number of each, in their order; the name is `unknown` where none was given. Programs that this one
        starts don't get them.

    Raises:
        UsageError: the variables contradict each other, or a descriptor is not open.
    """
    count, process = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    if not count or process != str(os.getpid()):
        return []
    if not (count.isascii() and count.isdigit() and int(count) <= MAX_DESCRIPTORS):
        raise UsageError(f"LISTEN_FDS is {count!r}, not a number up to {MAX_DESCRIPTORS}")
    numbers = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    given = names.split(":") if names else ["unknown"] * len(numbers)
    if len(given) != len(numbers):
        raise UsageError(f"LISTEN_FDNAMES has {len(given)} names for {count} descriptors")
    for number in numbers:
        try:
            os.set_inheritable(number, False)
        except OSError as error:
            raise UsageError(f"LISTEN_FDS says that descriptor {number} is open: {error.strerror}") from error
    return list(zip(given, numbers, strict=True))


def is_journal(descriptor: int, environment: Environment = os.environ) -> bool:
    """Whether what is written to a descriptor goes to the journal, which adds the time and keeps the priority."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def _address(name: str) -> str | None:
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") and hasattr(socket, "AF_UNIX") else None


def _watchdog_s(environment: Environment) -> float | None:
    period, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not (period.isascii() and period.isdigit() and int(period)) or process not in {"", str(os.getpid())}:
        return None
    return int(period) / 1e6
