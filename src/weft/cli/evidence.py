"""What a bug report is made of: looked up piece by piece, told under pseudonyms.

A piece that can't be had is left out, and the report says why; the others are there all the same.
"""

from __future__ import annotations

import base64
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from weft import __version__
from weft.api.v0 import log as log_api
from weft.api.v0 import node as node_api
from weft.api.v0 import observe
from weft.api.v0.log import Tail
from weft.cli.log_file import read_log
from weft.cli.pseudonyms import Pseudonyms
from weft.cli.report import BugReport
from weft.cli.settings import Settings
from weft.engine.config import FILE_NAME, load_config, load_network_psk
from weft.engine.status import LOG_LINES, LogLine
from weft.errors import WeftError
from weft.io.store import State, Store

LIBRARIES = ("aiohttp", "click", "cryptography", "msgspec", "pyroute2", "rich")
PATIENCE_S = 10.0
MAX_LINES = 1000
MAX_FILE_BYTES = 64 * 1024

T = TypeVar("T")


def collect(settings: Settings) -> BugReport:
    """Look at everything, and tell it under pseudonyms."""
    return _Collector(settings).report()


class _Collector:
    """Looks things up, and remembers what could not be had."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = settings.directory
        self._missing: dict[str, str] = {}

    def report(self) -> BugReport:
        status = self._try("status", self._status)
        metrics = self._try("metrics", self._metrics) if status is not None else None
        state = self._try("state", Store(self._directory).load_state)
        config = self._try("config", lambda: load_config(self._directory / FILE_NAME))
        log = self._try("log", self._log if status is not None else self._log_of_the_last)
        interfaces = self._try("interfaces", _interfaces)
        routes = self._try("routes", _routes)
        names = self._pseudonyms(status, state)
        return BugReport(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            running=status is not None,
            versions=_versions(),
            environment=sorted(name for name in os.environ if name.startswith("WEFT_")),
            config=names.clean_value(msgspec.to_builtins(config)),
            status=names.clean_value(status),
            state=names.clean_value(_public(state)),
            metrics=names.clean_value(metrics or []),
            log=names.clean_value([_told(line) for line in log or []]),
            interfaces=names.clean_value(interfaces or []),
            routes=names.clean_value(routes or []),
            missing={piece: names.clean(why) for piece, why in self._missing.items()},
            legend=names.legend,
        )

    def _pseudonyms(self, status: dict[str, Any] | None, state: State | None) -> Pseudonyms:
        """All that is known beforehand of who and what must not be told."""
        names = Pseudonyms()
        names.hide(self._secrets(state))
        names.tell_directories((self._directory, self._directory.absolute(), Path.home()))
        names.tell("host", _hosts_of_this_machine())
        names.tell("user", _users())
        if status is not None:
            names.tell("name", (peer["name"] for peer in status["peers"]))
            names.tell("host", (_host_of(peer["endpoint"]) for peer in status["peers"]))
        if state is not None:
            names.tell("name", (peer.name for peer in state.peers))
            names.tell("host", (_host_in(address) for peer in state.peers for address in peer.endpoints))
        return names

    def _try(self, piece: str, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except (WeftError, OSError, subprocess.SubprocessError) as error:
            self._missing[piece] = str(error)
            return None

    def _status(self) -> dict[str, Any]:
        reply = self._settings.client.fetch(node_api.STATUS, patience_s=PATIENCE_S)
        status: dict[str, Any] = msgspec.json.decode(reply)
        return status

    def _metrics(self) -> list[str]:
        text = self._settings.client.fetch(observe.METRICS, patience_s=PATIENCE_S).decode()
        return [line for line in text.splitlines() if not line.startswith("#")]

    def _log(self) -> list[LogLine]:
        return self._settings.client.call(log_api.LIST, Tail(), patience_s=PATIENCE_S).lines

    def _log_of_the_last(self) -> list[LogLine]:
        return read_log(self._directory, LOG_LINES, "debug")

    def _secrets(self, state: State | None) -> Iterator[str]:
        """All secrets that this node has, in the spellings in which they might have got somewhere."""
        found = [peer.psk for peer in state.peers if peer.psk] if state is not None else []
        yield from found
        raw = [base64.b64decode(key) for key in found]
        with suppress(WeftError, OSError):
            identity = Store(self._directory).load_key()
            raw += [identity.seed, identity.noise_private]
        try:
            config = load_config(self._directory / FILE_NAME)
            files = [config.network.secret_file, config.api.token_file]
            raw += [psk for psk in [load_network_psk(config, self._directory)] if psk]
        except (WeftError, OSError):
            files = ["network.secret", "api.token"]
        for file in files:
            yield from _lines_of(self._directory / file) if file else ()
        for secret in raw:
            yield secret.hex()
            yield base64.b64encode(secret).decode()


def _lines_of(path: Path) -> Iterator[str]:
    """A secret that is text, as a whole and line by line."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode(errors="replace").strip()
    except OSError:
        return
    yield text
    yield from (line.strip() for line in text.splitlines())


def _versions() -> dict[str, str]:
    versions = {
        "weft": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
    }
    if sys.platform == "linux":
        with suppress(OSError):
            versions["distribution"] = platform.freedesktop_os_release()["PRETTY_NAME"]
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not there"
    return versions


def _public(state: State | None) -> Any:
    """The state without its secrets."""
    if state is None:
        return None
    told = msgspec.to_builtins(state)
    for peer in told["peers"]:
        if "psk" in peer:
            peer["psk"] = "(secret)"
    return told


def _told(line: LogLine) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line.at)) if line.at is not None else "-"
    return f"{moment} {line.level} {line.logger}: {line.text}"


def _interfaces() -> list[str]:
    # An alias is what people have written about it.
    return [line for line in _output_of("ip", "-details", "address") if not line.lstrip().startswith("alias ")]


def _routes() -> list[str]:
    return [line for family in ("-4", "-6") for line in _output_of("ip", family, "route", "show", "table", "all")]


def _output_of(*command: str) -> list[str]:
    program = shutil.which(command[0])
    if program is None:
        raise WeftError(f"there is no program {command[0]} here")
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=True
    )
    return done.stdout.splitlines()[:MAX_LINES]


def _hosts_of_this_machine() -> set[str]:
    name = socket.gethostname()
    return {name, name.partition(".")[0]}


def _users() -> set[str | None]:
    users = {os.environ.get(name) for name in ("USER", "LOGNAME", "SUDO_USER", "USERNAME")}
    if sys.platform != "win32":
        import pwd

        for number in {str(os.getuid()), os.environ.get("SUDO_UID", "")}:
            try:
                entry = pwd.getpwuid(int(number))
            except (KeyError, ValueError, OverflowError):
                continue
            users |= {entry.pw_name, entry.pw_gecos.partition(",")[0]}
    return users


def _host_of(endpoint: str | None) -> str | None:
    """The name in `nas:1312`; None where there is an address."""
    host = (endpoint or "").rpartition(":")[0]
    return host if host and any(letter.isalpha() for letter in host) and ":" not in host else None


def _host_in(multiaddr: str) -> str | None:
    _, protocol, host, *_ = multiaddr.split("/")
    return host if protocol.startswith("dns") else None
