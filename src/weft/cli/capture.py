"""`weft capture`: the packets of the overlay, as they pass the firewall."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import BinaryIO

import click
import msgspec

from weft.api.v0 import packet as packet_api
from weft.api.v0.packet import Capture
from weft.cli.command import Command
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.engine.observed import MAX_SNAP, Captured, CapturedPacket
from weft.errors import UsageError
from weft.packet.describe import describe
from weft.packet.pcap import encode_file_header, encode_packet

_MODE = 0o600
"""Of the file: what people say to each other is in it."""


@click.command(
    cls=Command,
    result=packet_api.CAPTURE,
    examples=(
        "weft capture",
        "weft capture --peer loom --dropped",
        "weft capture -w loom.pcap --count 1000",
        "weft capture --snap 128 -w - | tcpdump -n -r - icmp6",
    ),
)
@click.option("-w", "--write", "file", metavar="FILE", help="Write a pcap file; - is standard output.")
@click.option("--peer", type=PEER, help="Only packets from and to this one.")
@click.option("-c", "--count", type=click.IntRange(1), help="End after so many packets.")
@click.option(
    "--snap", type=click.IntRange(1, MAX_SNAP), default=MAX_SNAP, metavar="BYTES", help="What to keep of each packet."
)
@click.option("--dropped", is_flag=True, help="Packets that do not pass too, with the reason.")
@pass_settings
def capture(
    settings: Settings, file: str | None, peer: str | None, count: int | None, snap: int, *, dropped: bool
) -> None:
    """Show the packets inside the tunnels, in both directions, until Ctrl-C.

    A super-packet, which stands for many segments of one connection, is one packet here, with its checksum completed.
    """
    seen = missed = 0
    stream = settings.client.stream(packet_api.CAPTURE, Capture(peer=peer, snap=snap, dropped=dropped))
    with suppress(KeyboardInterrupt), stream, ExitStack() as stack:
        show = _writer(stack, file) if file is not None else _show_json if settings.json else _show
        for captured in stream:
            packets = captured.packets[: count - seen if count is not None else None]
            seen += len(packets)
            missed += captured.missed
            show(msgspec.structs.replace(captured, packets=packets))
            if seen == count:
                break
    told = f"{seen} packets" + (f", {missed} more were missed; `--snap 128` takes less time" if missed else "")
    click.echo(f"weft: {told}", err=True)


def _show(captured: Captured) -> None:
    click.echo("\n".join(map(_line, captured.packets)))


def _show_json(captured: Captured) -> None:
    click.echo(msgspec.json.encode(captured))


def _writer(stack: ExitStack, file: str) -> Callable[[Captured], None]:
    """What writes to a capture file, which is closed with the stack."""
    if file != "-":
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
        if stat.S_ISREG(os.fstat(opened).st_mode):
            # It may have been there, and open to others.
            os.fchmod(opened, _MODE)
        target: BinaryIO = stack.enter_context(os.fdopen(opened, "wb"))
    elif sys.stdout.isatty():
        raise UsageError("a capture file is not for a terminal; pipe it: `weft capture -w - | tcpdump -n -r -`")
    else:
        target = sys.stdout.buffer

    def write(captured: Captured) -> None:
        target.write(b"".join(map(_encode, captured.packets)))
        target.flush()

    target.write(encode_file_header(MAX_SNAP))
    target.flush()
    return write


def _encode(packet: CapturedPacket) -> bytes:
    return encode_packet(packet.time_ns, packet.length, packet.data)


def _line(packet: CapturedPacket) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(packet.time_ns // 1_000_000_000))
    micro = packet.time_ns // 1000 % 1_000_000
    why = f" [dropped: {packet.dropped}]" if packet.dropped is not None else ""
    peer = packet.peer or "-"
    return f"{at}.{micro:06} {packet.direction:3} {peer}  {describe(packet.data, packet.segment)}{why}"
