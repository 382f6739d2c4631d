"""What is measured of a node: each value where it belongs, whatever the state of the node."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.unit.engine.nodes import Nodes, Run, peer_of
from weft.engine.lifetime import Lifetime
from weft.engine.metric import Histogram
from weft.engine.metrics import Metrics, table


def values(node: Lifetime, metrics: Metrics | None = None) -> dict[str, Any]:
    """By name: the number, the numbers by label values, or the counts of a histogram."""
    found: dict[str, Any] = {}
    for family in (metrics or Metrics(node)).read():
        if isinstance(family, Histogram):
            found[family.metric.name] = list(family.counts)
        elif family.metric.labels:
            assert len(set(family.keys)) == len(family.keys) == len(family.values)
            assert all(len(key) == len(family.metric.labels) for key in family.keys)
            found[family.metric.name] = dict(zip(family.keys, family.values, strict=True))
        else:
            found[family.metric.name] = family.values[0]
    return found


def test_each_metric_of_the_table_is_read_in_its_order_and_only_those(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        read = [family.metric for family in Metrics(alice).read()]
        assert read == list(table())
        assert len({metric.name for metric in read}) == len(read)
        for metric in read:
            assert metric.meaning.endswith(".")
            assert metric.name.endswith("_total") == (metric.kind == "counter")

    run(test)


def test_numbers_are_those_of_the_peer(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        await asyncio.sleep(160)
        peer = peer_of(alice, bob)
        peer.name, peer.path.size.loss = "bob", 0.125
        found = values(alice)
        peer.name = None
        key = ("bob",)
        assert found["weft_peer_info"] == {("bob", str(bob.identity.peer_id), "weft"): 1}
        assert found["weft_peer_up"] == {key: 1}
        assert found["weft_peer_transmit_bytes_total"][key] == peer.path.tx_bytes > 0
        assert found["weft_peer_receive_bytes_total"][key] == peer.path.rx_bytes > 0
        assert found["weft_peer_loss_ratio"][key] == 0.125
        assert found["weft_peer_handshakes_total"][key] == 2
        assert 0 <= found["weft_peer_handshake_age_seconds"][key] < 160
        assert found["weft_peers"] == {("up",): 1, ("connecting",): 0, ("idle",): 0}
        assert found["weft_handshakes_total"] == {("completed",): 2, ("failed",): 0}
        # The side that began sends initiations and gets responses.
        assert found["weft_handshake_messages_total"] == {("sent", "initiation"): 2, ("received", "response"): 2}
        assert values(bob)["weft_handshake_messages_total"] == {
            ("received", "initiation"): 2,
            ("sent", "response"): 2,
        }

    run(test)


def test_numbers_are_those_of_the_node(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        alice.drops["unknown"] = 3
        alice.firewall.drops["flows"] = 2
        alice.session_restarts = 4
        await asyncio.sleep(0.01)
        assert alice.stage is not None
        alice.stage.kill("store")
        await asyncio.sleep(0.01)
        found = values(alice)
        assert found["weft_drops_total"] == {("unknown",): 3, ("flows",): 2}
        assert found["weft_session_restarts_total"] == 4
        assert found["weft_task_restarts_total"][("store",)] == 1
        assert found["weft_interface_up"] == 0
        assert found["weft_packets_waiting"] == 0
        (queued,) = found["weft_udp_queue_bytes"].items()
        assert queued[0][0].startswith("127.0.0.1:")
        assert found["process_open_fds"] == len(os.listdir("/proc/self/fd")) - 1
        assert 0 < found["process_resident_memory_bytes"] < 4e9
        assert found["process_cpu_seconds_total"] > 0

    run(test)


def test_node_whose_session_is_being_built_anew_has_numbers_too(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        session, stage, alice.session, alice.stage = alice.session, alice.stage, None, None
        found = values(alice)
        alice.session, alice.stage = session, stage
        assert found["weft_peer_up"] == {}
        assert found["weft_burst_sent_pieces"] == [0]

    run(test)


def test_two_peers_that_look_alike_are_told_apart_by_their_ids(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob, carol = [await nodes.start(name) for name in ("alice", "bob", "carol")]
        await nodes.connect(alice, bob)
        await nodes.connect(alice, carol)
        # No verb lets this happen.
        peer_of(alice, bob).name = peer_of(alice, carol).name = "twin"
        metrics = Metrics(alice)
        ids = {(str(bob.identity.peer_id),), (str(carol.identity.peer_id),)}
        assert set(values(alice, metrics)["weft_peer_up"]) == ids
        peer_of(alice, carol).name = "other"
        assert set(values(alice, metrics)["weft_peer_up"]) == {("twin",), ("other",)}
        peer_of(alice, bob).name = peer_of(alice, carol).name = None

    run(test)


def test_bursts_are_counted_by_their_pieces(run: Run) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await nodes.start("alice"), await nodes.start("bob")
        await nodes.connect(alice, bob)
        peer = peer_of(alice, bob)
        keypair = alice.running.transmitter.keypair_for(peer, alice.terms.clock())
        assert keypair is not None
        alice.running.transmitter.send_burst(peer, keypair, bytes(1008), alice.terms.clock(), 0)
        await asyncio.sleep(0.1)
        once = [0, 1] + [0] * 63
        assert values(alice)["weft_burst_sent_pieces"] == values(bob)["weft_burst_received_pieces"] == once

    run(test)
