"""What a node can be measured by: one table of names, types and meanings, each with how its value of now is read.

Names follow the conventions of Prometheus: `weft_`, what it is of, the unit; a counter ends in `_total` and only grows,
but begins anew with the daemon, and that of a peer or of handshakes with the session too. The docs' page is made from
the table.

The values of one metric are a `Family` and are read in one go. The caller may let others have their turn between two of
them, so that a thousand peers hold up no packet.

Not done here: the text in which they are told, and what the API counts of itself (weft.api.metrics).
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from weft import __version__
from weft.engine.lifetime import Lifetime
from weft.engine.metric import Family, Histogram, Metric, Number
from weft.engine.peer import Peer
from weft.engine.presence import id_of
from weft.identity import PeerId, encode_wireguard_key
from weft.io import process

Read = Callable[[Lifetime], dict[tuple[str, ...], Number]]
ReadPeer = Callable[[Peer, int], Number]


def _one(value: Number) -> dict[tuple[str, ...], Number]:
    return {(): value}


def _by_name(counts: Iterable[tuple[str, Number]]) -> dict[tuple[str, ...], Number]:
    return {(name,): value for name, value in counts}


def _build(_: Lifetime) -> dict[tuple[str, ...], Number]:
    return {(__version__, platform.python_version()): 1}


def _node(life: Lifetime) -> dict[tuple[str, ...], Number]:
    return {(str(life.identity.peer_id), encode_wireguard_key(life.identity.noise_public)): 1}


def _handshake_messages(life: Lifetime) -> dict[tuple[str, ...], Number]:
    return dict(life.session.handshake_messages) if life.session is not None else {}


def _handshakes(life: Lifetime) -> dict[tuple[str, ...], Number]:
    counts = life.session.handshakes if life.session is not None else Counter()
    return _by_name((result, counts[result]) for result in ("completed", "failed"))


def _peers(life: Lifetime) -> list[Peer]:
    return list(life.session.contacts) if life.session is not None else []


def _states(life: Lifetime) -> dict[tuple[str, ...], Number]:
    now = life.terms.clock()
    states = Counter(_state_of(peer, now) for peer in _peers(life))
    return _by_name((state, states[state]) for state in ("up", "connecting", "idle"))


def _state_of(peer: Peer, now: int) -> str:
    return "up" if peer.tunnel.is_up(now) else "connecting" if peer.tunnel.is_handshaking else "idle"


def _waiting(life: Lifetime) -> dict[tuple[str, ...], Number]:
    return _one(sum(len(peer.queue) for peer in _peers(life)))


def _tasks(life: Lifetime) -> dict[tuple[str, ...], Number]:
    tasks = life.stage.tasks() if life.stage is not None else []
    return _by_name((task.name, task.restarts) for task in tasks)


def _queued(life: Lifetime) -> dict[tuple[str, ...], Number]:
    return _by_name((_spelled(*socket.address), socket.queued_bytes) for socket in life.underlay.sockets)


def _spelled(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _pieces_sent(life: Lifetime) -> list[int]:
    return life.session.transmitter.pieces if life.session is not None else [0]


def _pieces_received(life: Lifetime) -> list[int]:
    return life.session.inbound.pieces if life.session is not None else [0]


NODE: Final[tuple[tuple[Metric, Read], ...]] = (
    (Metric("weft_build_info", "gauge", "Always 1; what runs.", ("version", "python")), _build),
    (Metric("weft_node_info", "gauge", "Always 1; who this node is.", ("id", "public_key")), _node),
    (Metric("weft_peers", "gauge", "Peers by state: up, connecting, idle.", ("state",)), _states),
    (
        Metric("weft_drops_total", "counter", "Packets and messages that were dropped, by reason.", ("reason",)),
        lambda life: _by_name(life.total_drops().items()),
    ),
    (
        Metric("weft_handshakes_total", "counter", "Handshakes that ended: completed or failed.", ("result",)),
        _handshakes,
    ),
    (
        Metric(
            "weft_handshake_messages_total",
            "counter",
            "Messages of handshakes: initiation, response, cookie; sent or received, before they are judged.",
            ("direction", "message"),
        ),
        _handshake_messages,
    ),
    (
        Metric("weft_packets_waiting", "gauge", "Packets that wait for a session with their peer."),
        _waiting,
    ),
    (
        Metric(
            "weft_udp_queue_bytes", "gauge", "Bytes that wait until the kernel takes them, by listener.", ("listener",)
        ),
        _queued,
    ),
    (
        Metric("weft_interface_up", "gauge", "1 while the fc00::/8 interface is there."),
        lambda life: _one(int(life.interface is not None)),
    ),
    (
        Metric("weft_firewall_flows", "gauge", "Connections that the firewall remembers."),
        lambda life: _one(life.firewall.flows),
    ),
    (
        Metric("weft_firewall_rules", "gauge", "Rules of the firewall."),
        lambda life: _one(len(life.firewall.rules())),
    ),
    (
        Metric("weft_task_restarts_total", "counter", "How often a task died and was started again.", ("task",)),
        _tasks,
    ),
    (
        Metric("weft_session_restarts_total", "counter", "How often all sessions were begun anew after faults."),
        lambda life: _one(life.session_restarts),
    ),
    (
        Metric("weft_event_loop_tasks", "gauge", "Tasks of the daemon's event loop, those of its clients included."),
        lambda _: _one(len(asyncio.all_tasks())),
    ),
    (
        Metric("process_start_time_seconds", "gauge", "When the daemon began, seconds since 1970."),
        lambda _: _one(process.began_at),
    ),
    (
        Metric("process_cpu_seconds_total", "counter", "Processor time of the daemon."),
        lambda _: _one(process.cpu_s()),
    ),
    (
        Metric("process_resident_memory_bytes", "gauge", "Memory of the daemon."),
        lambda _: _one(process.resident_bytes()),
    ),
    (
        Metric("process_open_fds", "gauge", "Descriptors of the daemon."),
        lambda _: _one(process.descriptors()),
    ),
)
"""What there is once for a node."""

BURSTS: Final[tuple[tuple[Metric, Callable[[Lifetime], list[int]]], ...]] = (
    (Metric("weft_burst_sent_pieces", "histogram", "Datagrams of each burst that was sent."), _pieces_sent),
    (Metric("weft_burst_received_pieces", "histogram", "Datagrams of each burst that was opened."), _pieces_received),
)
"""How large bursts are."""

PEER: Final[tuple[tuple[Metric, ReadPeer], ...]] = (
    (
        Metric("weft_peer_up", "gauge", "1 while there is a session with the peer."),
        lambda peer, now: int(peer.tunnel.is_up(now)),
    ),
    (
        Metric("weft_peer_transmit_bytes_total", "counter", "Sent to the peer over the underlay, UDP payloads."),
        lambda peer, now: peer.path.tx_bytes,
    ),
    (
        Metric("weft_peer_receive_bytes_total", "counter", "Received from the peer over the underlay, UDP payloads."),
        lambda peer, now: peer.path.rx_bytes,
    ),
    (
        Metric("weft_peer_round_trip_seconds", "gauge", "Smoothed round trip to the peer, once one was measured."),
        lambda peer, now: None if peer.path.rtt_ns is None else peer.path.rtt_ns / 1e9,
    ),
    (
        Metric("weft_peer_loss_ratio", "gauge", "Share of the datagrams to the peer that is lost, 0 to 1."),
        lambda peer, now: peer.path.size.loss,
    ),
    (
        Metric("weft_peer_burst_pieces", "gauge", "Datagrams that a burst to the peer may have; 1: single packets."),
        lambda peer, now: peer.path.size.pieces if peer.burst_limit else 1,
    ),
    (
        Metric("weft_peer_path_mtu_bytes", "gauge", "Largest IP packet of the underlay on the way to the peer."),
        lambda peer, now: peer.path.mtu.mtu if peer.notices is not None else peer.path.mtu.ceiling,
    ),
    (
        Metric("weft_peer_handshakes_total", "counter", "Handshakes with the peer that were completed."),
        lambda peer, now: peer.handshakes,
    ),
    (
        Metric("weft_peer_handshake_age_seconds", "gauge", "Time since the last handshake, once there was one."),
        lambda peer, now: None if (at := peer.tunnel.last_handshake_at) is None else (now - at) / 1e9,
    ),
    (
        Metric("weft_peer_bursts_received_total", "counter", "Bursts of the peer that were opened."),
        lambda peer, now: peer.meter.opened,
    ),
    (
        Metric("weft_peer_bursts_lost_total", "counter", "Bursts of the peer of which pieces were missing."),
        lambda peer, now: peer.meter.given_up,
    ),
)
"""What there is of each peer; the label `peer` is added to each."""

PEER_LABELS: Final = ("peer",)
_INFO: Final = Metric(
    "weft_peer_info", "gauge", "Always 1; the peer's id, or WireGuard key if it has none.", ("peer", "id", "kind")
)


def table() -> Iterator[Metric]:
    """All metrics of the engine, in the order in which `read` gives them."""
    yield from (metric for metric, _ in NODE)
    yield from (metric for metric, _ in BURSTS)
    yield _INFO
    yield from (metric._replace(labels=PEER_LABELS) for metric, _ in PEER)


class Metrics:
    """Reads the metrics of a node.

    Args:
        life: of the node.
    """

    def __init__(self, life: Lifetime) -> None:
        self._life = life
        self._ids: dict[Peer, tuple[PeerId | None, str]] = {}

    def read(self) -> Iterator[Family | Histogram]:
        """The values of now, metric by metric; others may run between two of them."""
        for metric, read in NODE:
            values = read(self._life)
            yield Family(metric, list(values), list(values.values()))
        for metric, pieces in BURSTS:
            yield Histogram(metric, pieces(self._life))
        peers = _peers(self._life)
        now = self._life.terms.clock()
        ids = self._ids_of(peers)
        names = [peer.name or id_ for peer, id_ in zip(peers, ids, strict=True)]
        if len(set(names)) < len(names):
            names = ids
        kinds = ["weft" if peer.is_weft else "wireguard" for peer in peers]
        yield Family(_INFO, list(zip(names, ids, kinds, strict=True)), [1] * len(peers))
        keys = [(name,) for name in names]
        for metric, read_peer in PEER:
            yield Family(metric._replace(labels=PEER_LABELS), keys, [read_peer(peer, now) for peer in peers])

    def _ids_of(self, peers: list[Peer]) -> list[str]:
        """Their ids, remembered from one time to the next, for writing one takes a while."""
        known = self._ids
        self._ids = {}
        for peer in peers:
            told = known.get(peer)
            if told is None or told[0] is not peer.peer_id:
                told = peer.peer_id, id_of(peer)
            self._ids[peer] = told
        return [text for _, text in self._ids.values()]
