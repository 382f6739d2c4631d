"""`weft up` and `weft down`: the whole node in one word."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from weft.api.client import Client, NoDaemon
from weft.api.v0 import fc00 as fc00_api
from weft.api.v0 import node as node_api
from weft.api.v0.fc00 import StartInterface
from weft.cli.command import Command
from weft.cli.log_file import BACKGROUND
from weft.cli.outcome import FAILED, OK, say
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import title, waiting
from weft.cli.without_tun import STACK_NAMES, is_no_tun, stack_instead
from weft.engine.status import Interface
from weft.errors import Broken, WeftError

START_S = 30.0
STOP_S = 30.0
RIVAL_S = 0.5
POLL_S = 0.02
TAIL_BYTES = 4096


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What `weft down --json` prints."""

    schema: int = 1
    running: bool = False


@click.command(
    cls=Command,
    result=node_api.INFO,
    examples=(
        "sudo weft up",
        "weft --dir ~/lab up",
        "weft up --tun userspace-networking                       # without rights: for programs with weft.Node",
        "export WEFT_DIR=~/lab; weft up",
    ),
)
@click.option(
    "--tun",
    metavar="NAME",
    help="Name of the interface; `userspace-networking` or `stack` for a TCP/IP host inside the daemon in its place.",
)
@pass_settings
def up(settings: Settings, tun: str | None) -> None:
    """Bring this node up: a key if there is none, the daemon in the background, the interface.

    Without root or CAP_NET_ADMIN there is no interface of the system. Then the network is inside the daemon, where
    programs with `weft.Node.attach()` use it, unless `fc00.device` in weft.toml is "tun". Once more changes nothing.
    The daemon logs to daemon.log in the node's directory.
    """
    from weft.engine.initial import ensure_initialised

    ensure_initialised(settings.directory)
    client = settings.client
    try:
        reply = client.fetch(node_api.INFO)
    except NoDaemon:
        reply = start_daemon(settings)
    interface, code = "", OK
    try:
        with waiting("making the interface"):
            interface = title(_make_interface(client, tun))
    except PermissionError as error:
        say(f"the daemon runs, but without an interface: {error}; run `weft down`, then `sudo weft up`")
    except (WeftError, OSError) as error:
        say(f"the daemon runs, but without an interface: {error}")
        code = FAILED
    if settings.json:
        click.echo(reply)
    else:
        address = client.decode(node_api.INFO, reply).address
        click.echo(f"weft is up: {address}" + (f" on {interface}" if interface else ""))
    raise click.exceptions.Exit(code)


def _make_interface(client: Client, tun: str | None) -> Interface:
    if tun in STACK_NAMES:
        return client.call(fc00_api.START, StartInterface(device="stack"))
    try:
        return client.call(fc00_api.START, StartInterface(ifname=tun))
    except (WeftError, OSError) as error:
        if tun is not None or not is_no_tun(error):
            raise
        return client.call(fc00_api.START, stack_instead(client, error))


@click.command(cls=Command, result=Stopped, examples=("sudo weft down", "weft --dir ~/lab down"))
@pass_settings
def down(settings: Settings) -> None:
    """Take this node down: the interface away, the daemon ended. Once more changes nothing.

    Key, configuration, peers and rules stay; `weft up` brings all of it back.
    """
    try:
        with waiting("waiting for the daemon to end"):
            stop_daemon(settings.client)
        told = "weft is down"
    except NoDaemon:
        told = "weft is down already"
    click.echo(msgspec.json.encode(Stopped()) if settings.json else told)


def start_daemon(settings: Settings) -> bytes:
    """Start the daemon in the background, and wait until it answers.

    Returns:
        What it says about itself, as JSON.

    Raises:
        WeftError: it ended, or did not answer in time; the message has the last line of its log.
    """
    log = settings.directory / BACKGROUND
    command = [sys.executable, "-m", "weft", "--dir", str(settings.directory.resolve())]
    command += ["--socket", str(settings.socket_path.absolute()), "daemon"]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # Not in the caller's directory, where a package of our name might lie, and which the daemon would keep busy.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    with waiting("starting the daemon"):
        return _first_answer(settings.client, process, log)


def _first_answer(client: Client, process: subprocess.Popen[bytes], log: Path) -> bytes:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            # It also ends if another `weft up` was faster, whose daemon will answer in a moment.
            deadline = min(deadline, time.monotonic() + RIVAL_S)
        try:
            return client.fetch(node_api.INFO)
        except (NoDaemon, Broken):
            time.sleep(POLL_S)
    if process.poll() is None:
        process.terminate()
        raise WeftError(f"the daemon did not answer within {START_S:.0f} s: {_last_line(log)}; its log is {log}")
    raise WeftError(f"the daemon did not start: {_last_line(log)}; its log is {log}")


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.removeprefix("weft: ") for line in reversed(lines) if line.strip()), "it said nothing")


def stop_daemon(client: Client) -> None:
    """Take the interface away, end the daemon, and wait until it is gone.

    Raises:
        NoDaemon: there was none.
        WeftError: it did not end in time.
    """
    try:
        client.call(fc00_api.STOP)
    except NoDaemon:
        raise
    except Broken:
        # Somebody else has told it to end.
        pass
    except (WeftError, OSError) as error:
        # It goes with the daemon in any case.
        say(f"the interface was not removed by itself: {error}")
    with suppress(NoDaemon, Broken):
        client.call(node_api.STOP)
    deadline = time.monotonic() + STOP_S
    # The daemon removes its socket's file after all else; a crashed one leaves it, but refuses the connection.
    while client.socket.exists():
        if time.monotonic() > deadline:
            raise WeftError(f"the daemon did not end within {STOP_S:.0f} s; its socket is {client.socket}")
        time.sleep(POLL_S)
