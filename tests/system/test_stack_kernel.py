"""The stack against the kernel over a real TUN, with a link between them that loses, delays, doubles and reorders.

    alice: the kernel ── link of weft.testing ── bob: routes ── TUN ── the stack

What each transfer is and how it is checked stands in `speaker.py`. `test_…_as_client_and_as_server` runs both ways.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.lab import FaultyCable, Host, Lab
from tests.system.process import Process

pytestmark = pytest.mark.system

STACK_V4, STACK_V6 = "10.78.0.2", "fd78::2"
NUMBERS = itertools.count()
CLEAN = "latency=0ms jitter=0ms loss=0 reordering=0 duplication=0 mtu=65535 rate=none queue=256k"


class Talker:
    """A speaker that runs, and the address at which others reach it."""

    def __init__(self, process: Process, ip4: str, ip6: str) -> None:
        self.process = process
        self.ip4, self.ip6 = ip4, ip6
        process.wait_for("ready")

    def begin(self, verb: str, **arguments: Any) -> int:
        number = next(NUMBERS)
        assert self.process.popen.stdin
        self.process.popen.stdin.write(json.dumps({"number": number, "do": verb, **arguments}).encode() + b"\n")
        self.process.popen.stdin.flush()
        return number

    def end(self, number: int, timeout_s: float = 60) -> dict[str, Any]:
        mark = f'{{"number": {number}, '
        deadline = time.monotonic() + timeout_s
        while True:
            for line in self.process.output().splitlines(keepends=True):
                if line.startswith(mark) and line.endswith("\n"):
                    said: dict[str, Any] = json.loads(line)
                    assert "exception" not in said, said
                    return said
            assert self.process.running, self.process.output()[-4000:]
            assert time.monotonic() < deadline, f"no answer in {timeout_s} s: {self.process.output()[-4000:]}"
            time.sleep(0.01)

    def do(self, verb: str, *, timeout_s: float = 60, **arguments: Any) -> dict[str, Any]:
        return self.end(self.begin(verb, **arguments), timeout_s)

    def address(self, version: int) -> str:
        return self.ip4 if version == 4 else self.ip6


class Bench:
    """The kernel in one host, the stack behind another, and a kernel to compare it with in its place."""

    def __init__(self, lab: Lab, *, single: bool) -> None:
        self.alice, self.bob = lab.host("alice"), lab.host("bob")
        self.cable: FaultyCable = lab.link(self.alice, self.bob, mode="tun", single=single)
        self.kernel = self._talker(self.alice, self.cable.left.ip4, self.cable.left.ip6)
        self.other_kernel = self._talker(self.bob, self.cable.right.ip4, self.cable.right.ip6)
        words = ("stack0", f"{STACK_V4}/24", f"{STACK_V6}/64")
        self.stack = self._talker(self.bob, STACK_V4, STACK_V6, *words)
        bob, alice, cable = self.bob, self.alice, self.cable
        bob.ip("addr", "add", "10.78.0.1/24", "dev", "stack0")
        bob.ip("addr", "add", "fd78::1/64", "dev", "stack0", "nodad")
        bob.ip("link", "set", "stack0", "mtu", "1352", "txqueuelen", "10000", "up")
        bob.forward()
        alice.ip("route", "add", "10.78.0.0/24", "via", cable.right.ip4)
        alice.ip("route", "add", "fd78::/64", "via", cable.right.ip6)
        for host in (alice, bob):
            # What one test does to a path is not to be remembered by the next.
            settings = ["net.ipv4.tcp_no_metrics_save=1", "net.ipv4.tcp_fin_timeout=5"]
            # A path that swallows large packets is noticed, and after one time-out already.
            settings += ["net.ipv4.tcp_mtu_probing=1", "net.ipv4.tcp_retries1=1"]
            host.run("sysctl", "-q", "-w", *settings)

    @staticmethod
    def _talker(host: Host, ip4: str, ip6: str, *words: str) -> Talker:
        process = host.start(sys.executable, "-m", "tests.system.speaker", *words, name=f"speaker {' '.join(words)}")
        return Talker(process, ip4, ip6)

    def ends(self, role: str) -> tuple[Talker, Talker]:
        """Who asks and who answers, if the stack has that role."""
        return (self.stack, self.kernel) if role == "client" else (self.kernel, self.stack)

    def transfer(self, role: str, version: int, wish: str, faults: str = "", **arguments: Any) -> float:
        """Transfers in which the stack has a role; all must be right. Returns seconds."""
        client, server = self.ends(role)
        if faults:
            self.cable.set(faults)
        said = client.do("transfer", address=server.address(version), wish=wish, **arguments)
        assert said["errors"] == []
        assert said["right"] == arguments.get("count", 1)
        return float(said["seconds"])


@pytest.fixture(scope="module")
def single() -> Iterator[Bench]:
    """Packets cross one by one, so that faults hit single ones."""
    with Lab() as lab:
        yield Bench(lab, single=True)


@pytest.fixture(scope="module")
def whole() -> Iterator[Bench]:
    """Super-packets cross as they are, from the kernel into the stack and back."""
    with Lab() as lab:
        yield Bench(lab, single=False)


@pytest.fixture
def bench(single: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    yield from until_mended(single, request)


@pytest.fixture
def wide(whole: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    yield from until_mended(whole, request)


def until_mended(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """What speakers and link say belongs to the report of a failure; the next test finds a link without faults."""
    try:
        yield bench
    finally:
        bench.cable.set(CLEAN)
        print(bench.stack.do("report"))
        print(bench.stack.process.output()[-3000:])


roles = pytest.mark.parametrize("role", ["client", "server"])
versions = pytest.mark.parametrize("version", [4, 6])
crosswise = pytest.mark.parametrize(
    ("role", "version"),
    [
        ("client", 4),
        ("server", 6),
        pytest.param("client", 6, marks=pytest.mark.long),
        pytest.param("server", 4, marks=pytest.mark.long),
    ],
)
"""Each role and each version in `make test`, all four pairs in `make long`: for what takes seconds of waiting."""
MB = 1_000_000


@roles
@versions
@pytest.mark.parametrize("wish", ["up", "down", "both"])
def test_bulk_in_super_packets_is_byte_exact(wide: Bench, role: str, version: int, wish: str) -> None:
    wide.transfer(role, version, wish, size=10 * MB)


@roles
@pytest.mark.parametrize(
    ("faults", "size"),
    [
        ("latency=2ms", 8 * MB),
        ("latency=2ms loss=1%", 2 * MB),
        ("latency=2ms loss=5%", MB // 2),
        ("latency=2ms loss=10%", MB // 8),
        ("latency=2ms reordering=10% held_back=3ms", MB),
        ("latency=2ms duplication=20%", 2 * MB),
        ("latency=5ms jitter=5ms loss=1% reordering=5% duplication=5%", MB // 2),
        ("latency=5ms rate=20M queue=60k", 3 * MB),
    ],
)
def test_bulk_both_ways_through_a_bad_link_is_byte_exact(bench: Bench, role: str, faults: str, size: int) -> None:
    bench.transfer(role, 6, "both", faults, size=size)


@pytest.mark.long
@roles
@versions
@pytest.mark.parametrize("wish", ["up", "down", "both"])
@pytest.mark.parametrize("latency", ["0ms", "1ms", "20ms"])
@pytest.mark.parametrize("loss", ["0", "1%", "5%", "10%"])
@pytest.mark.parametrize("more", ["", "reordering=10% held_back=5ms", "duplication=20%", "jitter=5ms", "mtu=1300"])
def test_matrix_of_faults(bench: Bench, role: str, version: int, wish: str, latency: str, loss: str, more: str) -> None:
    size = 4 * MB if loss == "0" else MB // 2
    bench.transfer(
        role, version, wish, f"latency={latency} loss={loss} {more}", size=size, patience_s=110, timeout_s=115
    )


@crosswise
@pytest.mark.parametrize("loss", ["0", "5%"])
def test_many_requests_and_responses(bench: Bench, role: str, version: int, loss: str) -> None:
    bench.transfer(role, version, "turns", f"latency=1ms loss={loss}", size=200, count=20, seconds=1)


@roles
@pytest.mark.parametrize(("faults", "size"), [("latency=1ms", 20_000), ("latency=5ms loss=1%", 2000)])
def test_a_thousand_connections_at_once(wide: Bench, role: str, faults: str, size: int) -> None:
    assert wide.transfer(role, 6, "up", faults, size=size, count=1000) < 30


@crosswise
def test_reader_that_pauses_closes_the_window_and_gets_all(bench: Bench, role: str, version: int) -> None:
    # More than both ends keep, so that the window closes whoever reads.
    bench.transfer(role, version, "slow", size=12 * MB, seconds=1.5)
    bench.transfer(role, version, "down", size=12 * MB, seconds=1.5)


@roles
def test_window_that_opens_while_the_link_is_down_is_asked_about(bench: Bench, role: str) -> None:
    client, server = bench.ends(role)
    number = client.begin("transfer", address=server.ip6, wish="slow", size=12 * MB, seconds=1)
    time.sleep(0.7)
    bench.cable.set("loss=100%")
    time.sleep(1.5)
    bench.cable.set("loss=0")
    assert client.end(number)["errors"] == []


@roles
@versions
@pytest.mark.parametrize("size", [0, 300_000])
def test_reset_of_the_server_is_seen(bench: Bench, role: str, version: int, size: int) -> None:
    client, server = bench.ends(role)
    assert client.do("reset", address=server.address(version), size=size)["error"] == "ConnectionResetError"


@roles
@versions
def test_port_where_nobody_listens_refuses(bench: Bench, role: str, version: int) -> None:
    client, server = bench.ends(role)
    said = client.do("connect", address=server.address(version), port=7001)
    assert said["error"] == "ConnectionRefusedError"


def test_keepalive_keeps_what_is_answered_and_ends_what_is_not(bench: Bench) -> None:
    numbers = []
    for role in ("client", "server"):
        client, server = bench.ends(role)
        numbers.append((client, client.begin("keep_alive", address=server.ip6, seconds=20)))
    time.sleep(3.5)
    bench.cable.set("loss=100%")
    for client, number in numbers:
        said = client.end(number)
        assert said["error"] == "TimeoutError"
        # It idles for a second, and the third of three questions, a second apart each, is not answered either.
        assert 6 < said["seconds"] < 10
    bench.cable.set("loss=0")
    for role in ("client", "server"):
        bench.ends(role)[1].do("reset_all")


@roles
def test_connection_attempt_over_a_lossy_link_succeeds(bench: Bench, role: str) -> None:
    bench.cable.set("loss=20%")
    client, server = bench.ends(role)
    numbers = [client.begin("connect", address=server.ip6, patience_s=50) for _ in range(10)]
    assert [client.end(number)["error"] for number in numbers] == [None] * 10
    bench.cable.set("loss=0")
    # Whose reset was lost stands still for ever.
    server.do("reset_all")


@crosswise
def test_path_that_silently_takes_smaller_packets_only_is_noticed(bench: Bench, role: str, version: int) -> None:
    """The kernel does with tcp_mtu_probing, the stack by itself."""
    bench.transfer(role, version, "both", "mtu=1300 latency=1ms", size=200_000)


@crosswise
def test_path_whose_mtu_falls_in_the_middle_of_a_transfer(bench: Bench, role: str, version: int) -> None:
    client, server = bench.ends(role)
    bench.cable.set("latency=2ms rate=20M")
    number = client.begin("transfer", address=server.address(version), wish="both", size=2 * MB)
    time.sleep(0.3)
    bench.cable.set("mtu=1280")
    assert client.end(number)["errors"] == []


@versions
def test_router_that_says_packet_too_big_is_believed(bench: Bench, version: int) -> None:
    try:
        bench.bob.ip("link", "set", bench.cable.right.ifname, "mtu", "1280")
        assert bench.transfer("client", version, "up", size=MB) < 3
        assert bench.transfer("server", version, "down", size=MB) < 3
    finally:
        bench.bob.ip("link", "set", bench.cable.right.ifname, "mtu", "1500")


@versions
def test_ping_both_ways(bench: Bench, version: int) -> None:
    assert bench.alice.ping(bench.stack.address(version)).received == 3
    # In fragments; the first of them may be lost, by which the kernel learns of the MTU.
    assert bench.alice.ping(bench.stack.address(version), size=4000).received >= 2
    assert bench.alice.ping(bench.stack.address(version), size=4000).received == 3
    assert bench.stack.do("ping", address=bench.kernel.address(version))["seconds"] < 1
    assert bench.stack.do("ping", address=bench.kernel.address(version), size=4000)["seconds"] < 1


@roles
@versions
@pytest.mark.parametrize("size", [1, 1000, 9000, 60_000])
def test_datagram_is_echoed_in_fragments_if_need_be(bench: Bench, role: str, version: int, size: int) -> None:
    client, server = bench.ends(role)
    assert client.do("udp", address=server.address(version), size=size)["error"] is None


@roles
@versions
def test_datagram_to_a_port_where_nobody_listens_is_refused(bench: Bench, role: str, version: int) -> None:
    client, server = bench.ends(role)
    said = client.do("udp", address=server.address(version), size=10, port=7001)
    assert said["error"] == "ConnectionRefusedError"


@roles
def test_fragments_out_of_order_and_twice_make_one_datagram(bench: Bench, role: str) -> None:
    bench.cable.set("reordering=30% duplication=30% held_back=3ms")
    client, server = bench.ends(role)
    for _ in range(4):
        # Few at once, for the buffer of a socket of the kernel is small.
        numbers = [client.begin("udp", address=server.ip6, size=9000) for _ in range(5)]
        assert [client.end(number)["error"] for number in numbers] == [None] * 5


def test_nothing_is_left_of_connections_that_are_over(bench: Bench) -> None:
    """After all that the tests before have done; the kernel keeps FIN-WAIT-2 for 5 s here."""
    deadline = time.monotonic() + 20
    while (said := bench.stack.do("report"))["connections"]:
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
