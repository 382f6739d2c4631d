"""`weft fc00`: the network's interface on this machine, and what it lets in."""

from __future__ import annotations

from contextlib import suppress

import click

from weft.api.v0 import fc00 as fc00_api
from weft.api.v0.fc00 import ChangePorts, StartInterface
from weft.cli.command import Group
from weft.cli.names import PEER, RULE
from weft.cli.settings import Settings, pass_settings
from weft.cli.show import table, title
from weft.cli.without_tun import is_no_tun, stack_instead
from weft.engine.status import Interface, Ports
from weft.errors import WeftError


@click.group(
    cls=Group,
    examples=(
        "weft fc00 start",
        "weft fc00 allow /tcp/22 /tcp/80 /icmp",
        "weft fc00 ports",
    ),
)
def fc00() -> None:
    """The interface for fc00::/8, and the firewall in front of it."""


@fc00.command(
    result=fc00_api.START,
    examples=(
        "weft fc00 start --ifname weft1",
        "sudo weft --dir ~/lab fc00 start     # for a daemon that has not the rights itself",
        "weft fc00 start --existing weft0     # which root has made for who runs the daemon, with its address",
        "weft fc00 start --stack              # inside the daemon, which needs no rights for it",
    ),
)
@click.option("--ifname", help="Name of the interface.  [default: weft0]")
@click.option(
    "--existing", metavar="NAME", help="Use the persistent TUN of that name, set up by somebody else, as it is."
)
@click.option("--fd", type=click.IntRange(0), help="Use the TUN that the caller has open as that descriptor, as it is.")
@click.option("--stack", is_flag=True, help="No interface of the system, but a TCP/IP host inside the daemon.")
@pass_settings
def start(settings: Settings, ifname: str | None, existing: str | None, fd: int | None, *, stack: bool) -> None:
    """Make the interface; done when programs can use it. Starting it again changes nothing.

    If the daemon has not the rights for it and this command has, the command makes it and passes it to the daemon. If
    neither has, the network is inside the daemon, where programs with `weft.Node.attach()` use it, unless `fc00.device`
    in weft.toml is "tun".
    """
    if sum((ifname is not None, existing is not None, fd is not None, stack)) > 1:
        raise click.UsageError(
            "--ifname, --existing, --fd and --stack are four ways to say which interface; choose one"
        )
    if fd is not None:
        from weft.cli.handover import passing

        with passing(settings.client, fd) as asked:
            _start(settings, asked)
        return
    asked = StartInterface(ifname=existing or ifname, existing=existing is not None, device="stack" if stack else None)
    try:
        _start(settings, asked)
    except (WeftError, PermissionError) as refused:
        if existing is not None or stack or not is_no_tun(refused):
            raise
        _start_without_tun(settings, ifname, refused)


def _start(settings: Settings, asked: StartInterface) -> None:
    settings.answer(fc00_api.START, asked, show_interface, doing="making the interface")


def _start_without_tun(settings: Settings, ifname: str | None, refused: Exception) -> None:
    """The daemon can't make a TUN: pass it one, or else take the stack."""
    from weft.cli.handover import making

    if isinstance(refused, PermissionError):
        # What the daemon lacks says more than that this command lacks it too.
        with suppress(PermissionError), making(settings.client, ifname) as asked:
            _start(settings, asked)
            return
    if ifname is not None:
        raise refused
    _start(settings, stack_instead(settings.client, refused))


@fc00.command(result=fc00_api.STOP, examples=("weft fc00 stop", "weft fc00 stop && weft fc00 start --ifname weft1"))
@pass_settings
def stop(settings: Settings) -> None:
    """Remove the interface. The daemon and its tunnels stay."""
    settings.answer(fc00_api.STOP, None, show_interface)


@fc00.command(
    result=fc00_api.STATUS,
    examples=(
        "weft fc00 status",
        "weft fc00 status --json | jq .mtu",
    ),
)
@pass_settings
def status(settings: Settings) -> None:
    """Show the interface."""
    settings.answer(fc00_api.STATUS, None, show_interface)


def show_interface(interface: Interface) -> None:
    """Print one line about the interface."""
    if not interface.up:
        click.echo("no interface")
        return
    offloads = f", offloads {' '.join(interface.offloads)}" if interface.offloads else ""
    addresses = " ".join([interface.address or "", *interface.addresses])
    click.echo(f"{title(interface)} is up: {addresses}, MTU {interface.mtu}{offloads}")


_from = click.option("--from", "peer", type=PEER, metavar="PEER", help="Only from this peer.")


@fc00.command(
    result=fc00_api.ALLOW,
    examples=(
        "weft fc00 allow /tcp/80 /icmp",
        "weft fc00 allow /tcp/22 --from loom",
        "weft fc00 allow /udp/0                # all of UDP",
    ),
)
@click.argument("rules", nargs=-1, required=True, metavar="RULE...")
@_from
@pass_settings
def allow(settings: Settings, rules: tuple[str, ...], peer: str | None) -> None:
    """Let others in the network reach ports of this machine.

    RULE is /tcp/PORT or /udp/PORT (port 0 stands for all) or /icmp. PEER is a name, id, address or key; the id or key
    of one that is not there yet will do. A rule for one peer goes when the peer is removed.
    """
    settings.answer(fc00_api.ALLOW, _rules(rules, peer), _show_ports)


@fc00.command(
    result=fc00_api.DENY,
    examples=(
        "weft fc00 deny /tcp/80 /icmp",
        "weft fc00 deny /tcp/22 --from loom",
    ),
)
@click.argument("rules", type=RULE, nargs=-1, required=True, metavar="RULE...")
@_from
@pass_settings
def deny(settings: Settings, rules: tuple[str, ...], peer: str | None) -> None:
    """Take rules back that `allow` has set, each as it was given.

    What is connected stays so; nothing new comes in.
    """
    settings.answer(fc00_api.DENY, _rules(rules, peer), _show_ports)


def _rules(rules: tuple[str, ...], peer: str | None) -> ChangePorts:
    return ChangePorts(rules=[rule if peer is None else f"{rule}/from/{peer}" for rule in rules])


@fc00.command(result=fc00_api.PORTS, examples=("weft fc00 ports", "weft fc00 ports --json | jq -r '.allow[]'"))
@pass_settings
def ports(settings: Settings) -> None:
    """Show what others may reach.

    With a TUN that is what the rules allow; with the stack, what programs listen on.
    """
    settings.answer(fc00_api.PORTS, None, _show_ports)


def _show_ports(ports: Ports) -> None:
    if ports.listening is not None:
        table((f"open {place}", "to everybody") for place in ports.listening)
        click.echo("all else that comes in is refused; the rules count with a TUN only")
        return
    rest = {"reject": "rejected", "drop": "dropped"}[ports.refuse]
    rows = []
    for rule in ports.allow:
        what, is_bound, key = rule.partition("/from/")
        rows.append((f"allow {what}", f"from {ports.peers.get(key, key)}" if is_bound else "from everybody"))
    table(rows)
    click.echo(f"all else that comes in is {rest}")
