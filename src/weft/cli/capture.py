"""`weft capture`: the packets of the overlay, as they pass the firewall."""

from __future__ import annotations

import os
import sys
import time
from typing import BinaryIO

import click
import msgspec

from weft.api.v0 import packet as packet_api
from weft.api.v0.packet import Capture
from weft.cli.command import Command
from weft.cli.names import PEER
from weft.cli.settings import Settings, pass_settings
from weft.engine.observed import MAX_SNAP, CapturedPacket
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
        "weft capture -w - | tcpdump -n -r - icmp6",
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
    asked = Capture(peer=peer, snap=snap, dropped=dropped)
    with settings.client.stream(packet_api.CAPTURE, asked) as stream:
        target = _open(file) if file is not None else None
        try:
            if target is not None:
                _write(target, encode_file_header(MAX_SNAP))
            for captured in stream:
                missed += captured.missed
                packets = captured.packets[: count - seen if count is not None else None]
                seen += len(packets)
                if target is not None:
                    _write(target, b"".join(map(_encode, packets)))
                elif settings.json:
                    click.echo(msgspec.json.encode(msgspec.structs.replace(captured, packets=packets)))
                else:
                    click.echo("\n".join(map(_line, packets)))
                if seen == count:
                    break
        except KeyboardInterrupt:
            pass
        finally:
            if target is not None and target is not sys.stdout.buffer:
                target.close()
    told = f"{seen} packets" + (f", {missed} more were missed; `--snap 128` takes less time" if missed else "")
    click.echo(f"weft: {told}", err=True)


def _open(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdout.buffer
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE), "wb")


def _write(target: BinaryIO, data: bytes) -> None:
    target.write(data)
    target.flush()


def _encode(packet: CapturedPacket) -> bytes:
    return encode_packet(packet.time_ns, packet.length, packet.data)


def _line(packet: CapturedPacket) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(packet.time_ns // 1_000_000_000))
    micro = packet.time_ns // 1000 % 1_000_000
    why = f" [dropped: {packet.dropped}]" if packet.dropped is not None else ""
    peer = packet.peer or "-"
    return f"{at}.{micro:06} {packet.direction:3} {peer}  {describe(packet.data, packet.segment)}{why}"
