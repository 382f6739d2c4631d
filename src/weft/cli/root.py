"""The command itself: its name, its version and the table of its commands."""

from __future__ import annotations

import click

from weft import __version__
from weft.cli.command import Group


@click.group(
    cls=Group,
    lazy={
        "init": "weft.cli.init:init",
        "up": "weft.cli.up:up",
        "down": "weft.cli.up:down",
        "daemon": "weft.cli.daemon:daemon",
        "info": "weft.cli.info:info",
        "status": "weft.cli.status:status",
        "logs": "weft.cli.logs:logs",
        "wait": "weft.cli.wait:wait",
        "ping": "weft.cli.ping:ping",
        "peer": "weft.cli.peer:peer",
        "fc00": "weft.cli.fc00:fc00",
        "trace": "weft.cli.trace:trace",
        "capture": "weft.cli.capture:capture",
        "listener": "weft.cli.listener:listener",
        "transport": "weft.cli.transport:transport",
        "config": "weft.cli.config:config",
        "reload": "weft.cli.reload:reload",
        "task": "weft.cli.task:task",
        "guest": "weft.cli.guest:guest",
        "show": "weft.cli.show_wg:show",
        "wg-config": "weft.cli.wg_config:wg_config",
        "import": "weft.cli.import_:import_",
        "key": "weft.cli.key:key",
        "genkey": "weft.cli.keys:genkey",
        "genpsk": "weft.cli.keys:genpsk",
        "pubkey": "weft.cli.keys:pubkey",
        "bugreport": "weft.cli.bugreport:bugreport",
        "completion": "weft.cli.completion:completion",
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "weft up                                                  # on both machines",
        "weft info                                                # shows what the other side has to dial",
        "weft peer connect /ip4/192.0.2.1/udp/1312/p2p/12D3KooW…  # on one of them",
        "weft status",
    ),
)
@click.version_option(__version__, message="weft %(version)s")
def weft() -> None:
    """Weave this machine into an encrypted network, peer to peer.

    The exit code is 0 if it was done, 1 if that failed, 2 if it was asked wrongly, 130 if it was interrupted.

    Each option obeys a variable of the environment too, which its help shows: `--count` of `weft ping` is
    WEFT_PING_COUNT. Colours are for terminals only, and not if NO_COLOR is set.
    """
