"""What an open transfer keeps, and whether a new peer gets in, while a node is flooded by its own protocol."""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import forgery
from bench.build import generator_program
from bench.competitors import OUTER_PORT
from bench.iperf import delivered_gbit_per_s, iperf
from bench.namespaces import VETH, BenchError, Namespace, Pair, join
from bench.plan import Plan
from bench.results import Name, Results
from bench.running import FAULTS, sample, say
from bench.weft_nodes import Weft, WeftNode
from weft.burst.header import TYPE_BURST, TYPE_DATA
from weft.noise.messages import INITIATION_BYTES

PER_SECOND = 20_000
CLOSED_PORT = OUTER_PORT + 1
# Far beyond whatever an honest sender reaches in a run.
FUTURE = 1 << 32
ATTACKER, VICTIM = "10.78.0.1", "10.78.0.2"
# Of the block for benchmarks (RFC 2544).
SPOOFED, SPOOFED_COUNT, SPOOFED_PORT = "198.18.0.1", 60_000, 4000
ETH_P_ALL = 3
CONNECT_S = 12


@dataclass
class Scene:
    """Two weft nodes with a transfer between them, and a third host from which the flood and the new peer come."""

    tunnel: Weft
    attacker: Namespace
    scratch: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)


@dataclass(frozen=True)
class Flood:
    """One kind of attack.

    Attributes:
        make: writes a second's worth of datagrams for a scene.
        size: of each, in bytes.
        source: first address and port, and number of addresses, that they pretend to come from.
    """

    make: Callable[[Scene], bytes]
    size: int
    source: tuple[str, int, int]


def make_initiations(scene: Scene) -> bytes:
    """Initiations to host b."""
    return forgery.initiations(base64.b64decode(scene.tunnel.b.info["wireguard_public_key"]), PER_SECOND)


def make_pieces(scene: Scene) -> bytes:
    """Pieces for the keypair on which host a sends at this moment."""
    return forgery.pieces(sniff_index(scene.tunnel), FUTURE, PER_SECOND)


FLOODS = {
    "initiations": Flood(make_initiations, INITIATION_BYTES, (SPOOFED, SPOOFED_PORT, SPOOFED_COUNT)),
    "pieces": Flood(make_pieces, forgery.DATAGRAM_BYTES, (SPOOFED, SPOOFED_PORT, SPOOFED_COUNT)),
    "pieces_from_peer": Flood(make_pieces, forgery.DATAGRAM_BYTES, (Pair.address_a, OUTER_PORT, 1)),
}


def sniff_index(tunnel: Weft) -> int:
    """The receiver index on what host a sends to host b."""
    with tunnel.pair.a.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as tap:
        tap.bind((VETH, ETH_P_ALL))
        tap.settimeout(0.2)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            tunnel.pair.a.run("ping", "-n", "-q", "-c", "1", "-w", "2", tunnel.inner_b)
            with contextlib.suppress(TimeoutError):
                while True:
                    packet, source = tap.recvfrom(2048)
                    data = packet[28:]
                    if source[2] == socket.PACKET_OUTGOING and int.from_bytes(data[:4], "little") in (
                        TYPE_DATA,
                        TYPE_BURST,
                    ):
                        return int(struct.unpack_from("<I", data, 4)[0])
    raise BenchError("no tunnel message was seen on the underlay")


@contextlib.contextmanager
def flooding(scene: Scene, flood: Flood, port: int, seconds: int) -> Iterator[None]:
    """The attack, for as long as the block runs and at most so many seconds."""
    file = scene.scratch / "flood.bin"
    file.write_bytes(flood.make(scene))
    address, from_port, sources = flood.source
    process = scene.attacker.start(
        str(generator_program("flood")), str(file), str(flood.size), VICTIM, str(port), str(PER_SECOND), str(seconds),
        address, str(from_port), str(sources),
    )  # fmt: skip
    time.sleep(0.3)
    try:
        yield
        if process.poll() is not None:
            raise BenchError(f"the flood ended early, with exit code {process.returncode}")
    finally:
        process.kill()
        process.wait()


def transfer(scene: Scene, flood: Flood, port: int, seconds: int, row: str) -> dict[str, float]:
    """Throughput from host a to host b under the flood."""
    with flooding(scene, flood, port, seconds + 10):
        return {row: delivered_gbit_per_s(iperf(scene.tunnel, seconds))}


def let_in(scene: Scene, flood: Flood) -> float:
    """1 if a node that was never seen before gets a tunnel to host b under the flood, else 0."""
    node = WeftNode(scene.attacker, scene.scratch / f"new-{next(scene.numbers)}")
    node.directory.parent.mkdir()
    process = node.start()
    try:
        with flooding(scene, flood, OUTER_PORT, CONNECT_S + 5):
            node.weft("peer", "connect", scene.tunnel.b.multiaddr(VICTIM), timeout_s=CONNECT_S)
            return 1.0
    except BenchError as error:
        say(f"a new peer under the flood: {error}")
        return 0.0
    finally:
        process.kill()
        process.wait()


def let_in_share(scene: Scene, flood: Flood, tries: int, row: str) -> dict[str, float]:
    """The share of new nodes, one after the other, that get in."""
    return {row: sum(let_in(scene, flood) for _ in range(tries)) / tries}


@contextlib.contextmanager
def on_stage(scratch: Path) -> Iterator[Scene]:
    """The three hosts, with host b's way to everywhere through the attacker, so that answers to lies leave."""
    scratch.mkdir()
    with contextlib.ExitStack() as stack:
        pair = Pair.create("flood", "plain")
        stack.callback(pair.delete)
        attacker = Namespace.create("flood-attacker")
        stack.callback(attacker.delete)
        join(attacker, ATTACKER, pair.b, VICTIM, device="flood")
        pair.b.run("ip", "route", "add", "default", "via", ATTACKER)
        tunnel = Weft(pair, scratch, {})
        stack.callback(tunnel.stop)
        tunnel.start()
        yield Scene(tunnel, attacker, scratch)


def measure_floods(plan: Plan, results: Results, scratch: Path) -> None:
    """Each flood in turn, on nodes that have not seen one."""
    if "floods" not in plan.sections:
        return
    for kind, flood in FLOODS.items():
        say(f"-- flood of {kind}")
        try:
            with on_stage(scratch / kind) as scene:
                measure_flood(plan, results, scene, kind, flood)
        except FAULTS as error:
            results.fail(Name(f"flood_{kind}", "plain", "weft"), str(error))
            say(f"flood of {kind}: {error}")


def measure_flood(plan: Plan, results: Results, scene: Scene, kind: str, flood: Flood) -> None:
    """To a closed port first, as a node may stay wary for minutes after a flood; then to its own; new peers last."""
    for row, port in ((f"flood_{kind}_closed", CLOSED_PORT), (f"flood_{kind}", OUTER_PORT)):
        for _ in range(plan.runs):
            measure = functools.partial(transfer, scene, flood, port, plan.seconds, row)
            sample(results, Name(row, "plain", "weft"), measure)
    row = f"flood_{kind}_let_in"
    sample(results, Name(row, "plain", "weft"), functools.partial(let_in_share, scene, flood, plan.runs, row))
