"""What a node with much to keep in mind loses by it: a transfer with and without rules, peers and a scraper."""

from __future__ import annotations

import functools
import http.client
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

from bench.iperf import delivered_gbit_per_s, iperf
from bench.namespaces import Pair
from bench.plan import Plan
from bench.results import Name, Results
from bench.running import running, sample, say
from bench.weft_nodes import Weft, WeftNode, weft
from weft.identity import encode_wireguard_key
from weft.io.store import State, Store, StoredPeer

PEERS = RULES = 1_000
SCRAPE_S = 1.0
# A difference of a few hundredths shows in many samples only.
SAMPLES = 3


class BurdenedWeft(Weft):
    """weft on both ends, each with a thousand rules and peers, and scraped for its metrics each second."""

    def __init__(self, pair: Pair, scratch: Path, environment: Mapping[str, str]) -> None:
        super().__init__(pair, scratch, environment)
        self.ended = threading.Event()
        self.scrapers: list[threading.Thread] = []

    def start(self) -> None:
        for node in (self.a, self.b):
            burden(node)
        super().start()
        for node in (self.a, self.b):
            self.scrapers.append(threading.Thread(target=scrape, args=(node.directory / "api.sock", self.ended)))
            self.scrapers[-1].start()

    def stop(self) -> None:
        self.ended.set()
        for scraper in self.scrapers:
            scraper.join()
        super().stop()


def burden(node: WeftNode) -> None:
    """Let a node that has not started yet remember many peers, none of which answers, and many rules."""
    random = Random(1312)
    node.weft("init")
    peers = [
        StoredPeer(
            key=encode_wireguard_key(random.randbytes(32)),
            kind="wireguard",
            name=f"peer-{number}",
            allowed_ips=[f"10.{number >> 8}.{number & 255}.0/24"],
        )
        for number in range(PEERS)
    ]
    rules = [f"/tcp/{1024 + number}" for number in range(RULES)]
    Store(node.directory).save_state(State(peers=peers, allow=rules))


def scrape(path: Path, ended: threading.Event) -> None:
    """Ask for the metrics each second, as Prometheus does."""
    while not ended.wait(SCRAPE_S):
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(path))
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert response.status == http.HTTPStatus.OK, response.status
            response.read()
            connection.close()


def measure_burden(plan: Plan, results: Results, scratch: Path) -> None:
    """Both in turns."""
    if "burden" not in plan.sections:
        return
    say(f"-- {PEERS:,} peers, {RULES:,} rules, metrics each second")
    forms = {"weft": weft(), "weft_burdened": lambda pair, scratch: BurdenedWeft(pair, scratch, {})}
    with running(forms, "plain", scratch, results, "burden") as tunnels:
        for _ in range(SAMPLES * plan.runs):
            for name, tunnel in tunnels.items():
                take = functools.partial(goodput, tunnel, plan.seconds)
                sample(results, Name("burden", "plain", name), take)


def goodput(tunnel: Weft, seconds: int) -> dict[str, float]:
    """TCP throughput of one stream."""
    return {"burden": delivered_gbit_per_s(iperf(tunnel, seconds))}
