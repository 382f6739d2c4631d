"""What arguments name, and what a shell offers for them: peers, rules and so on, as the running daemon tells them.

No daemon, or one that is slow, means that nothing is offered. Each name loads the part of the API that it needs when a
shell asks, so that commands stay fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from weft.api.client import Client
from weft.cli.settings import Settings

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PATIENCE_S = 0.5
"""A person who pressed Tab does not wait any longer."""

_PLAIN = re.compile(r"[\w/.:@%+=][\w/.:@%+=,-]*")
"""What a shell takes as it is. Names come out of files of others too, and Tab must put no command into a line."""


class Name(click.ParamType[str]):
    """An argument that names something of the running node; any text passes, for the node knows best.

    Args:
        name: what it names.
        offers: asks the daemon for the names, each with what there is to say about it.
    """

    def __init__(self, name: str, offers: Callable[[Client], Iterator[tuple[str, str]]]) -> None:
        self.name = name
        self._offers = offers

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin with what was typed."""
        from click.shell_completion import CompletionItem

        given = ctx.params.get(param.name or "")
        taken = given if isinstance(given, tuple) else ()
        try:
            offers = list(self._offers(ctx.ensure_object(Settings).client))
        except Exception:
            # Whatever it is, a shell in the middle of a line is no place to say it.
            return []
        return [
            CompletionItem(name, help=about)
            for name, about in offers
            if name.startswith(incomplete) and name not in taken and _PLAIN.fullmatch(name)
        ]


def _peers(client: Client) -> Iterator[tuple[str, str]]:
    from weft.api.v0 import peer

    for known in client.call(peer.LIST, patience_s=PATIENCE_S).peers:
        yield known.name or known.id or known.wireguard_public_key, f"{known.kind}, {known.state}"


def _rules(client: Client) -> Iterator[tuple[str, str]]:
    from weft.api.v0 import fc00

    for rule in client.call(fc00.PORTS, patience_s=PATIENCE_S).allow:
        yield rule, "allowed"


def _tasks(client: Client) -> Iterator[tuple[str, str]]:
    from weft.api.v0 import task

    for known in client.call(task.LIST, patience_s=PATIENCE_S).tasks:
        yield known.name, known.state


def _keys(_: Client) -> Iterator[tuple[str, str]]:
    from weft.engine.keys import KEYS

    for key in KEYS:
        yield key.name, key.meaning.partition(".")[0]


def _listeners(client: Client) -> Iterator[tuple[str, str]]:
    from weft.api.v0 import listener

    for known in client.call(listener.LIST, patience_s=PATIENCE_S).listeners:
        yield known.multiaddr, known.state


def _transports(client: Client) -> Iterator[tuple[str, str]]:
    from weft.api.v0 import transport

    for known in client.call(transport.LIST, patience_s=PATIENCE_S).transports:
        yield known.name, known.about


PEER = Name("peer", _peers)
RULE = Name("rule", _rules)
TASK = Name("name", _tasks)
KEY = Name("key", _keys)
LISTENER = Name("multiaddr", _listeners)
TRANSPORT = Name("name", _transports)
