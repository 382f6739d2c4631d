from collections import Counter

import pytest

from tests.unit.testing.machines import Answerer, Caller, ToEndpoint
from weft.errors import UsageError
from weft.testing.clock import MS, S
from weft.testing.faults import Faults
from weft.testing.network import Datagram, Endpoint, Host, Network, Socket
from weft.testing.trace import Fate, Trace

ALICE, BOB = "192.0.2.1", "192.0.2.2"


def two_hosts(network: Network) -> tuple[Socket, Socket]:
    return network.host("alice", ALICE, "2001:db8::1").bind(1312), network.host("bob", BOB, "2001:db8::2").bind(1312)


def fates(network: Network) -> Counter[Fate]:
    return Counter(entry.fate for entry in network.trace)


def test_datagram_arrives_after_the_latency_with_its_source(network: Network) -> None:
    alice, bob = two_hosts(network)
    alice.send(b"hello", (BOB, 1312))
    network.advance(10 * MS - 1)
    assert not bob.received
    network.advance(1)
    assert list(bob.received) == [(b"hello", (ALICE, 1312))]


def test_ipv6_destination_in_any_spelling_is_reached_from_the_ipv6_address(network: Network) -> None:
    alice, bob = two_hosts(network)
    alice.send(b"hello", ("2001:DB8:0::2", 1312))
    network.advance(S)
    assert bob.received[0].endpoint == Endpoint("2001:db8::1", 1312)
    assert str(bob.received[0].endpoint) == "[2001:db8::1]:1312"


def test_nobody_there_is_told_by_the_trace_alone(network: Network) -> None:
    alice, _ = two_hosts(network)
    alice.send(b"x", ("198.51.100.1", 1))
    alice.send(b"x", (BOB, 99))
    network.host("v4 only", "192.0.2.3").bind(1).send(b"x", ("2001:db8::2", 1312))
    network.advance(S)
    assert fates(network) == {Fate.UNREACHABLE: 2, Fate.NO_SUCH_PORT: 1}


@pytest.mark.parametrize(
    ("destination", "largest"), [((BOB, 1312), 1_500 - 28), (("2001:db8::2", 1312), 1_500 - 48)], ids=["v4", "v6"]
)
def test_datagram_over_the_mtu_vanishes_and_is_counted(
    network: Network, destination: tuple[str, int], largest: int
) -> None:
    alice, bob = two_hosts(network)
    alice.on_too_big = lambda destination, mtu_bytes: pytest.fail("reported")
    alice.send(bytes(largest), destination)
    alice.send(bytes(largest + 1), destination)
    network.advance(S)
    assert [len(datagram.data) for datagram in bob.received] == [largest]
    assert fates(network) == {Fate.DELIVERED: 1, Fate.TOO_BIG: 1}


def test_network_that_reports_tells_the_sender_the_mtu_one_latency_later(network: Network) -> None:
    network.reports_too_big = True
    network.faults = Faults(latency_ns=10 * MS, mtu_bytes=1_280)
    alice, _ = two_hosts(network)
    told: list[tuple[Endpoint, int, int]] = []
    start = network.clock.now
    alice.on_too_big = lambda destination, mtu_bytes: told.append((destination, mtu_bytes, network.clock.now - start))
    alice.send(bytes(1_400), (BOB, 1312))
    network.advance(S)
    assert told == [(Endpoint(BOB, 1312), 1_280, 10 * MS)]


def test_path_changed_while_running_holds_for_what_is_sent_after(network: Network) -> None:
    alice, bob = two_hosts(network)
    alice.send(b"before", (BOB, 1312))
    network.set_faults("alice", "bob", Faults(loss=1), one_way=True)
    alice.send(b"after", (BOB, 1312))
    bob.send(b"back", (ALICE, 1312))
    network.advance(S)
    assert [datagram.data for datagram in bob.received] == [b"before"]
    assert [datagram.data for datagram in alice.received] == [b"back"]


def test_rate_of_a_path_bounds_what_gets_through(network: Network) -> None:
    alice, bob = two_hosts(network)
    network.set_faults("alice", "bob", Faults(rate_bps=8_000_000, queue_bytes=10_280))
    for _ in range(20):
        alice.send(bytes(1_000), (BOB, 1312))
    network.advance(S)
    assert len(bob.received) == 10
    assert fates(network)[Fate.QUEUE_FULL] == 10


def test_host_that_moves_is_found_at_its_new_address_only(network: Network) -> None:
    alice, bob = two_hosts(network)
    alice.send(b"late", (BOB, 1312))
    bob.host.move_to("203.0.113.7")
    alice.send(b"old", (BOB, 1312))
    alice.send(b"new", ("203.0.113.7", 1312))
    bob.send(b"moved", (ALICE, 1312))
    network.advance(S)
    assert [datagram.data for datagram in bob.received] == [b"new"]
    assert alice.received[0].endpoint == Endpoint("203.0.113.7", 1312)


def test_address_and_port_that_are_taken_refuse(network: Network) -> None:
    alice, bob = two_hosts(network)
    with pytest.raises(UsageError, match="address of alice"):
        network.host("mallory", ALICE)
    with pytest.raises(UsageError, match="a host alice already"):
        network.host("alice", "192.0.2.9")
    with pytest.raises(UsageError, match="taken"):
        alice.host.bind(1312)
    bob.close()
    assert bob.host.bind(1312).port == 1312
    assert alice.host.bind().port != alice.host.bind().port


def test_machines_behind_ports_are_driven_with_their_timers(network: Network) -> None:
    alice, bob = two_hosts(network)
    caller = ToEndpoint(Caller(), Endpoint(BOB, 1312))
    left, right = alice.drive(caller), bob.drive(ToEndpoint(Answerer()))
    network.faults = Faults(loss=1)
    caller.machine.call(network.clock.now)
    network.advance(S)
    assert not right.events
    network.faults = Faults(latency_ns=MS)
    network.drive(lambda: bool(left.events))
    assert left.events == ["answered"]


def test_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    def run(seed: int) -> str:
        network = Network(seed=seed, faults=Faults(latency_ns=MS, jitter_ns=MS, loss=0.3, duplication=0.2))
        alice, bob = two_hosts(network)
        for _ in range(50):
            alice.send(b"x", (BOB, 1312))
            bob.send(b"y", (ALICE, 1312))
            network.advance(MS)
        return str(network.trace)

    assert run(1) == run(1)
    assert run(1) != run(2)


class OneToOne:
    """The smallest translator: one host inside, which has the outside address while `is_open`."""

    name = "nat"
    addresses = ("203.0.113.1",)
    is_open = True

    def outbound(self, source: Endpoint, destination: Endpoint, now: int) -> Endpoint | None:
        return Endpoint("203.0.113.1", source.port) if self.is_open else None

    def inbound(self, source: Endpoint, destination: Endpoint, now: int) -> Endpoint | None:
        return Endpoint("10.0.0.1", destination.port) if self.is_open else None


def behind(network: Network, translator: OneToOne) -> tuple[Host, Socket, Socket]:
    inside = network.host("inside", "10.0.0.1", translator=translator)
    return inside, inside.bind(5), network.host("outside", BOB).bind(6)


def test_host_behind_a_translator_is_seen_and_reached_by_its_outer_address(network: Network) -> None:
    _, inside, outside = behind(network, OneToOne())
    inside.send(b"out", (BOB, 6))
    outside.send(b"in", ("203.0.113.1", 5))
    outside.send(b"not routed", ("10.0.0.1", 5))
    network.advance(S)
    assert list(outside.received) == [(b"out", ("203.0.113.1", 5))]
    assert list(inside.received) == [(b"in", (BOB, 6))]


def test_hosts_behind_one_translator_reach_each_other_directly(network: Network) -> None:
    translator = OneToOne()
    _, inside, _ = behind(network, translator)
    neighbour = network.host("neighbour", "10.0.0.2", translator=translator).bind(7)
    inside.send(b"x", ("10.0.0.2", 7))
    network.advance(S)
    assert list(neighbour.received) == [(b"x", ("10.0.0.1", 5))]


def test_same_private_address_behind_two_translators_stays_apart(network: Network) -> None:
    _, inside, outside = behind(network, OneToOne())
    other = network.host("other", "10.0.0.1", translator=OneToOne()).bind(5)
    outside.send(b"x", ("203.0.113.1", 5))
    network.advance(S)
    assert (len(inside.received), len(other.received)) == (1, 0)


def test_translator_that_refuses_is_named_in_the_trace(network: Network) -> None:
    translator = OneToOne()
    _, inside, outside = behind(network, translator)
    outside.send(b"on its way", ("203.0.113.1", 5))
    translator.is_open = False
    inside.send(b"x", (BOB, 6))
    network.advance(S)
    assert fates(network) == {Fate.NOT_TRANSLATED: 2}
    assert not inside.received


def test_trace_prints_time_ends_size_and_fate(network: Network) -> None:
    alice, _ = two_hosts(network)
    network.advance(500 * MS)
    alice.send(b"hello", (BOB, 1312))
    network.advance(S)
    assert str(network.trace).splitlines() == [
        "    0.500000 s  alice 192.0.2.1:1312 > 192.0.2.2:1312  5 bytes  delivered after 10.000 ms",
        "1 delivered",
    ]


def test_trace_of_a_long_run_keeps_the_newest_and_counts_the_rest() -> None:
    network = Network()
    network.trace = Trace(entries=3)
    alice, _ = two_hosts(network)
    for size in range(1, 6):
        alice.send(bytes(size), (BOB, 1312))
    assert [entry.size for entry in network.trace] == [3, 4, 5]
    assert str(network.trace).startswith("… 2 earlier datagrams\n")


def test_failure_inside_shown_on_failure_carries_the_trace(network: Network) -> None:
    alice, _ = two_hosts(network)
    alice.send(b"hello", (BOB, 1312))
    with pytest.raises(RuntimeError) as failure, network.trace.shown_on_failure():
        raise RuntimeError("oh")
    assert "alice 192.0.2.1:1312 > 192.0.2.2:1312  5 bytes  in flight" in failure.value.__notes__[0]


def test_datagram_equals_a_plain_tuple() -> None:
    assert Datagram(b"x", Endpoint(ALICE, 1)) == (b"x", (ALICE, 1))
