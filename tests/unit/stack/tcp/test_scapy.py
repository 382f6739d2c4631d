"""A second opinion on every header that goes out in any script of this folder: scapy's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from tests.unit.stack.tcp.script import FLAGS, Script, Sent
from weft.stack.outgoing import Outgoing


def check(sent: Sent) -> None:
    """What scapy makes of a packet, and that it would make the same."""
    packet = sent.packet
    layers = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
    tcp = layers[TCP]
    assert "".join(sorted("." if flag == "A" else flag for flag in str(tcp.flags))) == sent.flags
    assert int(tcp.flags) == sum(FLAGS[flag] for flag in sent.flags)
    assert (tcp.dport, tcp.window, tcp.urgptr, tcp.reserved) == (sent.port, sent.window, sent.urgent, 0)
    assert bytes(tcp.payload) == sent.data
    said = sent.options
    wanted: list[tuple[str, object]] = []
    if said.maximum_segment is not None:
        wanted.append(("MSS", said.maximum_segment))
    if said.sack_permitted:
        wanted.append(("SAckOK", b""))
    if said.timestamps is not None:
        wanted.append(("Timestamp", said.timestamps))
    if said.shift is not None:
        wanted.append(("WScale", said.shift))
    if said.blocks:
        wanted.append(("SAck", tuple(edge for block in said.blocks for edge in block)))
    assert [option for option in tcp.options if option[0] != "NOP"] == wanted
    # Lengths and checksums, as scapy computes them; a super-packet has those of its whole.
    rebuilt = layers.copy()
    del rebuilt[TCP].chksum, rebuilt[TCP].dataofs
    if packet[0] >> 4 == 4:
        del rebuilt.chksum, rebuilt.len, rebuilt.ihl
    else:
        del rebuilt.plen
    assert bytes(rebuilt) == packet


class Checked(Script):
    """A script of which each different header is looked at."""

    seen: set[tuple[object, ...]]

    def _look_at(self, outgoing: Outgoing) -> Sent:
        sent = super()._look_at(outgoing)
        kind = (sent.flags, sent.length > 0, sent.options._replace(timestamps=None), sent.urgent > 0, sent.segment > 0)
        if kind not in self.__dict__.setdefault("seen", set()):
            self.seen.add(kind)
            check(sent)
        return sent


def scripts() -> Iterator[tuple[str, Callable[[Script], None]]]:
    """Every test of this folder that needs a script only."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.stem == "test_scapy":
            continue
        module = import_module(f"{__package__}.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and list(inspect.signature(function).parameters) == ["script"]:
                yield f"{path.stem}.{name}", function


SCRIPTS = dict(scripts())


@pytest.mark.parametrize("name", SCRIPTS)
def test_scapy_reads_and_would_write_the_same(name: str) -> None:
    with Checked() as script:
        SCRIPTS[name](script)


def test_there_are_many_scripts() -> None:
    assert len(SCRIPTS) > 150


@pytest.mark.parametrize(("version", "ts", "ws", "sack"), list(product((4, 6), (None, 5), (None, 3), (False, True))))
def test_scapy_agrees_on_all_options(version: int, ts: int | None, ws: int | None, *, sack: bool) -> None:
    with Checked(version=version) as script:
        script.accepted(ts=ts, sack=sack, ws=ws)
        stamp = None if ts is None else (ts, 0)
        for number in range(5):
            script.inject(".", seq=11 + 20 * number, ack=1, data=7, ts=stamp)
            script.take_all()
        script.send(5000, urgent=True)
        script.take_all()
        script.inject("F.", seq=200, ack=1, ts=stamp)
        script.take_all()
        script.shutdown()
        script.take_all()
        script.abort()
        script.take_all()
