import asyncio
import hashlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from scapy.all import IPv6, rdpcap

from weft.errors import UsageError
from weft.testing import MS, Fate, Faults, S, SimulatedNetwork, SimulatedNode, run
from weft.testing.trace import Entry

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the end of what comes with its digest."""
    digest = hashlib.sha256()
    while data := await reader.read(65_536):
        digest.update(data)
    writer.write(digest.digest())
    writer.close()


async def ask(node: SimulatedNode, peer: object, line: bytes = b"hello\n") -> bytes:
    reader, writer = await node.open_connection(peer, 80)
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    return answer


async def send(node: SimulatedNode, peer: object, data: bytes) -> bool:
    """Send data; returns whether it arrived as it was."""
    reader, writer = await node.open_connection(peer, 80)
    writer.write(data)
    writer.write_eof()
    digest = await reader.read()
    writer.close()
    return digest == hashlib.sha256(data).digest()


def two(network: SimulatedNetwork) -> tuple[SimulatedNode, SimulatedNode]:
    return network.node("alice"), network.node("bob")


def fates(network: SimulatedNetwork) -> set[Fate]:
    return {entry.fate for entry in network.trace}


# Who is called how.


@pytest.mark.parametrize(
    "name_of",
    [
        lambda bob: "bob",
        lambda bob: "bob.weft",
        lambda bob: "BOB.weft",
        lambda bob: b"bob",
        lambda bob: str(bob.identity),
        lambda bob: f"{bob.identity.to_dns_label()}.weft",
        lambda bob: bob.identity,
        lambda bob: bob.address,
        lambda bob: str(bob.address),
        lambda bob: bob,
    ],
)
async def test_node_is_reached_by_all_that_it_is_called(
    simulated_network: SimulatedNetwork, name_of: Callable[[SimulatedNode], object]
) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=80)
    assert await ask(alice, name_of(bob)) == b"hello\n"


async def test_node_reaches_itself(simulated_network: SimulatedNetwork) -> None:
    alice = simulated_network.node("alice")
    await alice.start_server(echo, port=80)
    assert await ask(alice, "alice") == await ask(alice, "localhost") == b"hello\n"
    assert len(simulated_network.trace) == 0


async def test_both_ends_know_who_is_at_the_other(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    seen: list[object] = []

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peer"))
        writer.close()

    await bob.start_server(handle, port=80)
    reader, writer = await alice.open_connection("bob", 80)
    await reader.read()
    peer = writer.get_extra_info("peer")
    assert (peer.name, peer.id, peer.addresses) == ("bob", str(bob.identity), [str(bob.address)])
    (caller,) = seen
    assert await ask_nobody(bob, caller) is ConnectionRefusedError
    writer.close()


async def ask_nobody(node: SimulatedNode, peer: object) -> type[OSError] | None:
    try:
        await ask(node, peer)
    except OSError as error:
        return type(error)
    return None


async def test_name_of_nobody_is_no_name_and_nobody_else_is_asked(simulated_network: SimulatedNetwork) -> None:
    alice = simulated_network.node("alice")
    for name in ("carol", "carol.weft", "example.org"):
        with pytest.raises(socket.gaierror) as error:
            await alice.getaddrinfo(name, 80)
        assert error.value.errno == socket.EAI_NONAME


async def test_names_are_those_of_the_other_families_too(simulated_network: SimulatedNetwork) -> None:
    alice = simulated_network.node("alice")
    simulated_network.node("bob", "10.7.0.2/24")
    (info,) = await alice.getaddrinfo("bob", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
    assert info[4] == ("10.7.0.2", 80)
    simulated_network.node("carol")
    with pytest.raises(socket.gaierror):
        await alice.getaddrinfo("carol", 80, family=socket.AF_INET)


async def test_address_of_nobody_is_unreachable_at_once(simulated_network: SimulatedNetwork) -> None:
    alice = simulated_network.node("alice")
    with pytest.raises(OSError, match="Connect call failed") as error:
        await alice.open_connection("fc00::1", 80)
    assert error.value.errno == 101


async def test_port_that_nobody_listens_on_refuses_after_a_round_trip(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    start = simulated_network.clock.now
    assert await ask_nobody(alice, bob) is ConnectionRefusedError
    assert simulated_network.clock.now - start == 20 * MS


async def test_node_has_ipv4_addresses_that_it_is_given(simulated_network: SimulatedNetwork) -> None:
    alice, bob = simulated_network.node("alice", "10.7.0.1/24"), simulated_network.node("bob", "10.7.0.2/24")
    await bob.start_server(echo, port=80)
    assert await ask(alice, "10.7.0.2") == b"hello\n"


async def test_node_has_its_identity_in_each_network(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    other = SimulatedNetwork(seed=9)
    assert other.node("alice").identity == alice.identity != bob.identity
    assert IPv6Address(alice.identity.address) == alice.address
    assert (repr(alice), simulated_network.nodes) == ("<SimulatedNode alice>", [alice, bob])
    other.end()


# What can't be.


@pytest.mark.parametrize("name", ["", "-alice", "alice-", "al ice", "a.b", "ä", "a" * 64])
async def test_what_is_no_name_is_refused(simulated_network: SimulatedNetwork, name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        simulated_network.node(name)


async def test_names_and_addresses_belong_to_one_node(simulated_network: SimulatedNetwork) -> None:
    simulated_network.node("alice", "10.7.0.1/24")
    with pytest.raises(UsageError, match="there is a node alice already"):
        simulated_network.node("Alice")
    with pytest.raises(UsageError, match="alice has an address of bob already"):
        simulated_network.node("bob", "10.7.0.1/16")
    simulated_network.node("bob", "10.7.0.2/24")


@pytest.mark.parametrize("address", ["10.7.0", "224.0.0.1/32", "bob"])
async def test_what_is_no_address_of_a_host_is_refused(simulated_network: SimulatedNetwork, address: str) -> None:
    with pytest.raises(UsageError):
        simulated_network.node("alice", address)
    assert simulated_network.nodes == []


async def test_link_to_nobody_has_no_faults(simulated_network: SimulatedNetwork) -> None:
    simulated_network.node("alice")
    for change in (simulated_network.set_faults, simulated_network.way):
        with pytest.raises(UsageError, match="there is no node bob"):
            change("alice", "bob", *([Faults()] if change == simulated_network.set_faults else []))
    with pytest.raises(UsageError, match="there is no node bob"):
        simulated_network.partition(["bob"])


def test_loop_with_real_time_is_refused() -> None:
    async def main() -> None:
        async with SimulatedNetwork():
            raise AssertionError("never")

    with pytest.raises(UsageError, match=r"needs virtual time: weft\.testing\.run"):
        asyncio.run(main())


# Faults.


async def test_opening_a_connection_takes_a_round_trip(simulated_network: SimulatedNetwork) -> None:
    simulated_network.faults = Faults(latency_ns=70 * MS)
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=80)
    start = simulated_network.clock.now
    _, writer = await alice.open_connection("bob", 80)
    assert simulated_network.clock.now - start == 140 * MS
    writer.close()


@pytest.mark.parametrize("network_seed", range(5))
async def test_everything_arrives_once_and_in_order_whatever_the_network_does(
    simulated_network: SimulatedNetwork,
) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(swallow, port=80)
    simulated_network.faults = Faults(latency_ns=5 * MS, jitter_ns=5 * MS, loss=0.05, reordering=0.1, duplication=0.1)
    assert await send(alice, "bob", bytes(range(256)) * 400)
    assert fates(simulated_network) >= {Fate.DELIVERED, Fate.LOST}
    assert {entry.note for entry in simulated_network.trace} == {"", "held back", "duplicate"}


async def test_megabyte_takes_a_second_at_eight_megabits(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(swallow, port=80)
    simulated_network.set_faults(alice, bob, Faults(latency_ns=10 * MS, rate_bps=8_000_000))
    start = simulated_network.clock.now
    assert await send(alice, bob, bytes(1_000_000))
    assert 1.0 < (simulated_network.clock.now - start) / S < 1.3


async def test_super_packets_cross_whole_where_nothing_hits_single_packets(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(swallow, port=80)
    assert await send(alice, bob, bytes(1_000_000))
    assert max(entry.size for entry in simulated_network.trace) > 30_000
    whole = len(simulated_network.trace)
    simulated_network.faults = Faults(latency_ns=10 * MS, loss=0.001)
    assert await send(alice, bob, bytes(1_000_000))
    assert max(entry.size for entry in list(simulated_network.trace)[whole:]) == 1352


async def test_smaller_mtu_in_the_middle_of_a_connection_is_learned(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(swallow, port=80)
    reader, writer = await alice.open_connection("bob", 80)
    writer.write(bytes(50_000))
    await asyncio.sleep(1)
    simulated_network.faults = Faults(latency_ns=10 * MS, mtu_bytes=1280)
    writer.write(bytes(50_000))
    writer.write_eof()
    assert await reader.read() == hashlib.sha256(bytes(100_000)).digest()
    assert Fate.TOO_BIG in fates(simulated_network)
    writer.close()


async def test_datagram_over_the_mtu_vanishes_where_nobody_reports_it(simulated_network: SimulatedNetwork) -> None:
    # The fixture sees to it that time is virtual.
    network = SimulatedNetwork(Faults(latency_ns=10 * MS, mtu_bytes=1280), reports_too_big=False)
    alice, bob = two(network)
    heard = Heard()
    await bob.create_datagram_endpoint(lambda: heard, ("::", 53))
    transport, _ = await alice.create_datagram_endpoint(Heard, remote_addr=("bob", 53))
    transport.sendto(bytes(1300))
    transport.sendto(b"small")
    await asyncio.sleep(1)
    assert heard.data == [b"small"]
    assert [entry.fate for entry in network.trace] == [Fate.TOO_BIG, Fate.DELIVERED]
    network.end()


class Heard(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.data.append(data)

    def error_received(self, error: Exception) -> None:
        self.errors.append(error)


async def test_datagrams_are_lost_in_their_share(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    heard = Heard()
    await bob.create_datagram_endpoint(lambda: heard, ("::", 53))
    transport, _ = await alice.create_datagram_endpoint(Heard, remote_addr=("bob", 53))
    simulated_network.set_faults(alice, bob, Faults(loss=0.25))
    for number in range(1000):
        transport.sendto(number.to_bytes(2, "big"))
        await asyncio.sleep(0.01)
    assert 700 < len(heard.data) < 800
    assert heard.data == sorted(heard.data)


async def test_datagram_to_a_port_of_nobody_is_refused(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    heard = Heard()
    transport, _ = await alice.create_datagram_endpoint(lambda: heard, remote_addr=(bob, 53))
    transport.sendto(b"hello")
    await asyncio.sleep(1)
    assert [type(error) for error in heard.errors] == [ConnectionRefusedError]
    assert "10.000 ms  icmp destination unreachable, port unreachable" in str(simulated_network.trace)


async def test_link_has_faults_of_its_own_until_it_gets_others(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    carol = simulated_network.node("carol")
    own = Faults(latency_ns=30 * MS)
    simulated_network.set_faults("alice", bob, own)
    simulated_network.set_faults(bob, carol, own, one_way=True)
    simulated_network.way(alice, carol)
    simulated_network.faults = other = Faults(latency_ns=40 * MS)
    assert simulated_network.way(alice, bob).faults is simulated_network.way("bob", "alice").faults is own
    assert simulated_network.way(bob, carol).faults is own
    assert simulated_network.way(carol, bob).faults is simulated_network.way(alice, carol).faults is other
    assert simulated_network.faults is other


async def test_packet_that_a_test_picks_is_lost(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=80)
    numbers = iter(range(1000))
    simulated_network.way(alice, bob).loses = lambda _: next(numbers) == 2
    assert await ask(alice, bob) == b"hello\n"
    sent = [entry.fate for entry in simulated_network.trace if entry.source == "alice"]
    assert sent[:4] == [Fate.DELIVERED, Fate.DELIVERED, Fate.LOST, Fate.DELIVERED]


async def test_what_travels_can_be_taken_and_played_again(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    heard = Heard()
    await bob.create_datagram_endpoint(lambda: heard, ("::", 53))
    transport, _ = await alice.create_datagram_endpoint(Heard, remote_addr=(bob, 53))
    transport.sendto(b"hello")
    await asyncio.sleep(0.001)
    way = simulated_network.way(alice, bob)
    (packet,) = way.take()
    await asyncio.sleep(1)
    assert heard.data == []
    for _ in range(3):
        way.inject(packet, is_partial=True)
    await asyncio.sleep(1)
    assert heard.data == [b"hello"] * 3


# Partitions.


async def test_connection_outlives_half_a_minute_of_partition(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=80)
    reader, writer = await alice.open_connection("bob", 80)
    simulated_network.partition([alice], ["bob"])
    writer.write(b"hello\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readline(), 30)
    assert Fate.CUT_OFF in fates(simulated_network)
    simulated_network.heal()
    assert await reader.readline() == b"hello\n"
    writer.close()


async def test_nodes_reach_their_own_group_only_and_those_in_none_are_one(simulated_network: SimulatedNetwork) -> None:
    names = ["alice", "bob", "carol", "dave", "erin"]
    nodes = {name: simulated_network.node(name) for name in names}
    for node in nodes.values():
        await node.start_server(echo, port=80)

    async def reached() -> set[str]:
        found = set()
        for one in names:
            for other in names:
                if one < other:
                    try:
                        await asyncio.wait_for(ask(nodes[one], other), 1)
                    except TimeoutError:
                        continue
                    found.add(f"{one} {other}")
        return found

    simulated_network.partition(["alice", nodes["bob"]], ["carol"])
    assert await reached() == {"alice bob", "dave erin"}
    simulated_network.partition(["alice"])
    assert await reached() == {"bob carol", "bob dave", "bob erin", "carol dave", "carol erin", "dave erin"}
    simulated_network.heal()
    assert len(await reached()) == 10


# Nodes come and go.


async def test_node_that_leaves_sends_what_it_had_written_and_closed(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    done: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.append(await reader.read())
        writer.close()

    await bob.start_server(handle, port=81)
    _, writer = await alice.open_connection("bob", 81)
    writer.write(bytes(500_000))
    writer.close()
    await alice.close()
    await alice.close()
    assert done == [bytes(500_000)]
    assert simulated_network.nodes == [bob]


async def test_node_that_leaves_aborts_what_is_open_and_another_may_take_its_place(
    simulated_network: SimulatedNetwork,
) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=80)
    reader, _ = await alice.open_connection("bob", 80)
    await bob.close()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(socket.gaierror):
        await alice.open_connection("bob", 80)
    bob = simulated_network.node("bob")
    await bob.start_server(echo, port=80)
    assert await ask(alice, "bob") == b"hello\n"


async def test_node_that_was_cut_off_leaves_without_a_word(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=80)
    reader, writer = await alice.open_connection("bob", 80)
    simulated_network.partition([bob])
    await bob.close()
    simulated_network.heal()
    writer.write(b"hello\n")
    start = simulated_network.clock.now
    with pytest.raises(OSError, match=r"No route to host|timed out"):
        await reader.readline()
    assert simulated_network.clock.now - start > 60 * S
    assert Fate.UNREACHABLE in fates(simulated_network)


async def test_node_that_has_left_opens_nothing(simulated_network: SimulatedNetwork) -> None:
    alice = simulated_network.node("alice")
    await alice.close()
    with pytest.raises(UsageError):
        await alice.open_connection("localhost", 80)


def test_end_of_the_network_is_seen_by_whoever_has_something_open() -> None:
    async def main() -> None:
        async with SimulatedNetwork() as network:
            alice, bob = two(network)
            await bob.start_server(echo, port=80)
            reader, _ = await alice.open_connection("bob", 80)
            waits = asyncio.create_task(reader.read())
            await asyncio.sleep(1)
        with pytest.raises(ConnectionAbortedError):
            await waits

    run(main())


# What is spoken over it.


async def test_tls_is_spoken_between_nodes(simulated_network: SimulatedNetwork) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("bob.weft").configure_cert(theirs)
    simulated_network.faults = Faults(latency_ns=50 * MS, loss=0.1)
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=443, ssl=theirs)
    reader, writer = await alice.open_connection("bob.weft", 443, ssl=ours)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()


async def test_web_server_gives_files_and_the_threads_that_read_them_take_no_time(
    simulated_network: SimulatedNetwork, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(bytes(1_000_000))
    app = web.Application()
    app.router.add_static("/", tmp_path)
    runner = web.AppRunner(app)
    await runner.setup()
    alice, bob = two(simulated_network)
    await bob.create_server(runner.server, port=80)
    start = simulated_network.clock.now
    reader, writer = await alice.open_connection(bob, 80)
    writer.write(b"GET /large HTTP/1.0\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.0 200 OK")
    assert await reader.read() == bytes(1_000_000)
    assert simulated_network.clock.now - start < 1 * S
    writer.close()
    await runner.cleanup()


# The same again.

STORY = """
import asyncio, sys
from weft.testing import MS, Faults, SimulatedNetwork, run

async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()

async def talk(node):
    reader, writer = await node.open_connection("carol", 80)
    for _ in range(20):
        writer.write(bytes(3000))
        await reader.readexactly(3000)
    writer.close()

async def main():
    faults = Faults(latency_ns=5 * MS, jitter_ns=3 * MS, loss=0.03, reordering=0.03, duplication=0.03)
    async with SimulatedNetwork(faults, seed=int(sys.argv[1])) as network:
        network.capture(sys.argv[2])
        alice, bob, carol = map(network.node, ("alice", "bob", "carol"))
        await carol.start_server(echo, port=80)
        await asyncio.gather(talk(alice), talk(bob))
        kept = [await bob.open_connection("carol", 80) for _ in range(10)]
        await bob.close()
        await asyncio.sleep(1)

run(main())
"""


def test_same_seed_is_the_same_run_in_every_process_and_another_seed_another_one(tmp_path: Path) -> None:
    def digest(seed: int, hash_seed: int) -> str:
        path = tmp_path / f"{seed} {hash_seed}.pcap"
        command = [sys.executable, "-W", "error", "-c", STORY, str(seed), str(path)]
        subprocess.run(command, env={"PYTHONHASHSEED": str(hash_seed)}, check=True, timeout=60)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert digest(7, 1) == digest(7, 2) != digest(8, 1)


# What is kept.


async def test_trace_says_what_each_packet_was(simulated_network: SimulatedNetwork) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(echo, port=80)
    await ask(alice, bob)
    lines = str(simulated_network.trace).splitlines()
    ((source, rest),) = [line.split(" > 80: ") for line in lines[:1]]
    assert source.startswith("    0.000000 s  alice > bob  84 bytes  delivered after 10.000 ms  ")
    assert rest == "tcp [S], length 0"
    assert " 80 > " in lines[1]


async def test_capture_has_every_packet_with_its_time_and_its_checksums(
    simulated_network: SimulatedNetwork, tmp_path: Path
) -> None:
    alice, bob = two(simulated_network)
    await bob.start_server(swallow, port=80)
    simulated_network.capture(tmp_path / "first.pcap")
    simulated_network.capture(tmp_path / "second.pcap")
    began = simulated_network.clock.wall_ns
    assert await send(alice, bob, bytes(100_000))
    simulated_network.end()
    packets = rdpcap(str(tmp_path / "second.pcap"))
    assert [packet.len for packet in rdpcap(str(tmp_path / "first.pcap"))] == []
    assert int(packets[0].time * S) == began
    assert sum(len(packet.load) for packet in packets if packet.haslayer("Raw")) == 100_000 + 32
    for packet in packets:
        again = IPv6(bytes(packet))
        del again["TCP"].chksum
        assert IPv6(bytes(again))["TCP"].chksum == packet["TCP"].chksum


def test_entries_that_are_no_packets_have_lines_too() -> None:
    entry = Entry(0, "alice", "bob", 5, Fate.LOST)
    assert entry.line(0) == "    0.000000 s  alice > bob  5 bytes  lost"
