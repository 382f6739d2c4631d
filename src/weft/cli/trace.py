"""`weft trace`: what the routes and the firewall would do with a packet, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from weft.api.v0 import packet as packet_api
from weft.api.v0.packet import TraceIn, TraceOut
from weft.cli.command import Group
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import table
from weft.engine.observed import SOURCE_PORT, Outcome, Trace

SHOWN_RULES = 20
"""More are too many to read."""

_OUTCOMES: dict[Outcome, str] = {
    "accept": "it comes in",
    "reject": "the peer is told",
    "drop": "nobody is told",
    "send": "it leaves",
    "wait": "it leaves when there is one",
    "local": "it stays on this machine",
    "unreachable": "the program is told",
    "too-big": "the program is told how large it may be",
}


@click.group(
    cls=Group,
    examples=(
        "weft trace in loom /tcp/22     # may loom connect to our SSH?",
        "weft trace out loom /udp/53    # where does a question to loom go?",
    ),
)
def trace() -> None:
    """Show what would become of a packet, rule by rule. Nothing is sent."""


def _packet_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--source", metavar="ADDRESS", help="Where it comes from; by default the sender's own address."),
        click.option(
            "--source-port", type=click.IntRange(0, 65535), default=SOURCE_PORT, show_default=True, help="Its own port."
        ),
        click.option(
            "--flags", default="S", show_default=True, help="Of TCP, as tcpdump writes them: S, S., ., F., R …"
        ),
        click.option("--size", type=click.IntRange(0, 65535), default=0, help="Bytes of the packet; small by default."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@trace.command(
    "in",
    result=packet_api.TRACE_IN,
    examples=(
        "weft trace in loom /tcp/22",
        "weft trace in phone /icmp --source 10.7.0.2 --destination 10.7.0.1",
        "weft trace in loom /tcp/22 --flags . --json | jq .verdict",
    ),
)
@click.argument("peer", type=PEER)
@click.argument("what")
@click.option("--destination", metavar="ADDRESS", help="Where it goes; by default this node's address.")
@_packet_options
@pass_settings
def trace_in(settings: Settings, /, **packet: Any) -> None:
    """Show what becomes of a packet that PEER sends to this machine.

    WHAT is /tcp/PORT, /udp/PORT or /icmp.
    """
    settings.answer(packet_api.TRACE_IN, TraceIn(**packet), _show)


@trace.command(
    "out",
    short_help="Show what becomes of a packet to DESTINATION.",
    result=packet_api.TRACE_OUT,
    examples=(
        "weft trace out fc89:54a1:b598:365f:357:d6a:b108:db7b /tcp/80",
        "weft trace out loom /udp/53 --size 1352",
    ),
)
@click.argument("destination", type=PEER)
@click.argument("what")
@_packet_options
@pass_settings
def trace_out(settings: Settings, /, **packet: Any) -> None:
    """Show what becomes of a packet that a program on this machine sends to DESTINATION.

    DESTINATION is an address, or a peer. WHAT is /tcp/PORT, /udp/PORT or /icmp.
    """
    settings.answer(packet_api.TRACE_OUT, TraceOut(**packet), _show)


def _show(trace: Trace) -> None:
    click.echo(trace.packet)
    table(_rows(trace))
    reason = f"{trace.reason}; " if trace.reason else ""
    rule = f", by {_named(trace, trace.rule)}" if trace.rule else ""
    click.echo(f"{trace.verdict}: {reason}{_OUTCOMES[trace.verdict]}{rule}")
    if trace.answer is not None:
        click.echo(f"answer: {trace.answer}")


def _rows(trace: Trace) -> Iterator[tuple[str, str]]:
    """The steps; of many rules only those that fit, and how many do not."""
    are_many = sum(step.stage == "rule" for step in trace.steps) > SHOWN_RULES
    hidden = 0
    for step in trace.steps:
        if are_many and step.stage == "rule" and not step.text.endswith(": fits"):
            hidden += 1
        else:
            yield step.stage, _named(trace, step.text) if step.stage == "rule" else step.text
    if hidden:
        yield "rule", f"{hidden} others do not fit; `--json` has them all"


def _named(trace: Trace, text: str) -> str:
    """What is said of a rule, with the name of the peer that it is for, as `weft fc00 ports` has it."""
    for key, name in trace.peers.items():
        text = text.replace(f"/from/{key}", f" from {name}")
    return text
