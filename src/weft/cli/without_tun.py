"""What a command does where nobody may make a TUN, or the system has none: it takes the stack, and says so."""

from __future__ import annotations

from typing import Final

from weft.api.client import Client, NoDaemon
from weft.api.v0 import config as config_api
from weft.api.v0.fc00 import StartInterface
from weft.cli.outcome import say
from weft.errors import Broken, TransportError

STACK_NAMES: Final = frozenset({"stack", "userspace-networking"})
"""What people may call the stack where a name of an interface is expected; the second is tailscale's word."""


def is_no_tun(error: Exception) -> bool:
    """Whether a daemon that was asked for a TUN says that there can be none."""
    return isinstance(error, (PermissionError, TransportError)) and not isinstance(error, (NoDaemon, Broken))


def stack_instead(client: Client, refused: Exception) -> StartInterface:
    """What to ask of a daemon in place of a TUN, if its configuration leaves that open.

    Args:
        client: the way to the daemon.
        refused: why there is no TUN.

    Raises:
        Exception: `refused`, if the configuration wants a TUN.
    """
    keys = {key.key: key.value for key in client.call(config_api.SHOW).keys}
    if keys.get("fc00.device") != "auto":
        raise refused
    say(f"no TUN: {refused}; the network is for programs that use weft.Node.attach()")
    return StartInterface(device="stack")
