"""The API of real daemons: events as they happen, metrics as Prometheus fetches them, the token, clients that die."""

from __future__ import annotations

import json
import signal
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.system.lab import Cable, Lab
from tests.system.node import EVERYTHING, Node, at_once
from tests.system.traffic import transfer
from tests.system.waiting import until
from weft.api.client import Listening
from weft.api.unix_socket import FILE_NAME
from weft.api.v0.observe import EVENTS, Watch
from weft.engine.status import Event

pytestmark = pytest.mark.system

PORT = 9480
CONFIG = f'[api]\nlisten = "127.0.0.1:{PORT}"\n'


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node, Cable]]:
    """Two nodes that are not connected; the first one's API is on a TCP port too."""
    with Lab() as lab:
        cable = lab.veth(lab.host("alice"), lab.host("bob"))
        alice = Node(cable.left.host, lab.directory("alice"), CONFIG)
        bob = Node(cable.right.host, lab.directory("bob"))
        at_once(lambda node: node.up(*EVERYTHING), alice, bob)
        yield alice, bob, cable


@pytest.fixture(scope="module")
def alice(pair: tuple[Node, Node, Cable]) -> Node:
    return pair[0]


def metrics(node: Node, *options: str) -> dict[str, dict[tuple[str, ...], float]]:
    """By name of the sample and the values of its labels, as curl gets them from the Unix socket."""
    text = curl(node, "/metrics", "--unix-socket", str(node.directory / FILE_NAME), *options)
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in read_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def curl(node: Node, path: str, *options: str) -> str:
    return node.host.run("curl", "-sS", *options, f"http://localhost:{PORT}{path}")


def streams(node: Node) -> float:
    return metrics(node)["weft_api_streams"][()]


def upcoming(listening: Listening[Event]) -> tuple[Event, float]:
    """The next event, and when it was heard."""
    return next(listening), time.monotonic()


def test_peer_that_comes_is_told_on_both_sides_within_a_second(pair: tuple[Node, Node, Cable]) -> None:
    alice, bob, cable = pair
    watch = Watch(kinds=["peer-up"])
    with (
        alice.client.stream(EVENTS, watch) as at_alice,
        bob.client.stream(EVENTS, watch) as at_bob,
        ThreadPoolExecutor(2) as pool,
    ):
        heard = [pool.submit(upcoming, each) for each in (at_alice, at_bob)]
        alice.connect(bob, cable.right)
        connected = time.monotonic()
        for future, other in zip(heard, (bob, alice), strict=True):
            event, at = future.result(10)
            assert event.kind == "peer-up"
            # Who is called learns the id of who calls only afterwards.
            assert event.peer in {other.id, other.info.wireguard_public_key}
            assert at < connected + 1
            assert abs(event.at - time.time()) < 10


def test_interface_and_tasks_are_told(alice: Node) -> None:
    with alice.client.stream(EVENTS, Watch(kinds=["interface-up", "interface-down", "task-died"])) as listening:
        alice.weft("task", "restart", "store")
        assert "store" in upcoming(listening)[0].text
        alice.weft("fc00", "stop")
        assert upcoming(listening)[0].text == "weft0 is down"
        alice.weft("fc00", "start")
        assert (event := next(listening)).kind == "interface-up", event


def test_metrics_are_those_of_the_traffic(pair: tuple[Node, Node, Cable]) -> None:
    alice, bob, cable = pair
    alice.connect(bob, cable.right)
    before = metrics(alice)
    transfer(alice.host, bob.host, bob.address, 1_000_000, direction="both")
    after = metrics(alice)
    key = (bob.id,)
    for name in ("weft_peer_transmit_bytes_total", "weft_peer_receive_bytes_total"):
        assert after[name][key] - before[name][key] > 1_000_000
    assert after["weft_peer_up"][key] == 1
    assert 0 < after["weft_peer_round_trip_seconds"][key] < 1
    assert after["weft_interface_up"][()] == 1
    assert after["weft_firewall_flows"][()] >= 1
    assert after["weft_handshakes_total"]["completed",] >= 1
    for name in ("weft_burst_sent_pieces", "weft_burst_received_pieces"):
        bursts = after[f"{name}_count"][()] - before[f"{name}_count"][()]
        assert after[f"{name}_sum"][()] - before[f"{name}_sum"][()] > bursts > 0
    assert after["process_cpu_seconds_total"][()] >= before["process_cpu_seconds_total"][()] > 0


def test_prometheus_gets_in_over_tcp_with_the_token_and_nobody_else(alice: Node) -> None:
    token_file = alice.directory / "api.token"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    # As `authorization: credentials_file` of Prometheus sends it.
    header = f"Authorization: Bearer {token_file.read_text().strip()}"
    assert "weft_build_info{" in curl(alice, "/metrics", "-H", header)
    open_metrics = curl(alice, "/metrics", "-H", header, "-H", "Accept: application/openmetrics-text; version=1.0.0")
    assert open_metrics.endswith("# EOF\n")
    for wrong in ([], ["-H", "Authorization: Bearer wrong"]):
        reply = curl(alice, "/metrics", "-i", *wrong)
        assert reply.startswith("HTTP/1.1 401 ")
        assert 'WWW-Authenticate: Bearer realm="weft"' in reply
        assert json.loads(reply.partition("\n\n")[2])["status"] == 401
    assert curl(alice, "/v0/info", "-i", "-H", header, "-H", "Host: evil.example").startswith("HTTP/1.1 421 ")
    listening = alice.host.run("ss", "-Hlnt", f"sport = :{PORT}")
    assert "127.0.0.1:" in listening
    assert metrics(alice)["weft_api_requests_total"]["other", "401"] >= 2


@pytest.mark.parametrize("way", ["kill -9", "stops reading"])
def test_client_of_a_stream_that_dies_or_hangs_harms_nobody(alice: Node, tmp_path: Path, way: str) -> None:
    before = streams(alice)
    url = "http://localhost/v0/events"
    client = alice.host.start("curl", "-sSN", "--unix-socket", str(alice.directory / FILE_NAME), url)
    until(lambda: streams(alice) == before + 1, "the stream is open")
    if way == "kill -9":
        client.popen.kill()
        until(lambda: streams(alice) == before, "the stream is closed", 1)
        return
    client.popen.send_signal(signal.SIGSTOP)
    try:
        # It costs the daemon nothing while there is room; the bound on what waits is a matter of the unit tests.
        alice.weft("task", "restart", "store")
        assert alice.weft("info")
    finally:
        client.popen.send_signal(signal.SIGCONT)
        client.popen.kill()
    until(lambda: streams(alice) == before, "the stream is closed", 1)


def test_stream_ends_cleanly_with_the_daemon(lab: Lab) -> None:
    node = Node(lab.host("alice"), lab.directory("alice"))
    node.run_daemon()
    told: list[Event] = []
    with node.client.stream(EVENTS) as listening:
        thread = threading.Thread(target=lambda: told.extend(listening))
        thread.start()
        node.down()
        thread.join(5)
        # Had the connection broken, the thread would have died of it.
        assert not thread.is_alive()


def test_address_that_others_reach_is_one_clear_line(lab: Lab) -> None:
    host = lab.host("alice")
    open_to_all = Node(host, lab.directory("open"), '[api]\nlisten = "0.0.0.0:9480"\n')
    outcome = open_to_all.outcome("up")
    assert outcome.code != 0
    assert "api.listen" in outcome.err
    assert "loopback" in outcome.err
    assert "Traceback" not in outcome.err
