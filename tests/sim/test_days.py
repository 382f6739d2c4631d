"""Three nodes for days of virtual time: every hour something happens to them, after which everything works again.

What they hold is counted each hour: nothing may grow. `make test` runs 3 hours, `make long` 72.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

import pytest

from tests.unit.engine import packets
from tests.unit.engine.pair import Faults, Net, Node, S

MINUTE_S = 60
HOUR_S = 3600
NAMES = ("alice", "bob", "carol")
PAIRS = (("alice", "bob"), ("alice", "carol"), ("bob", "carol"))
WARM_UP_HOURS = 2
"""After so long each table has been as full as it gets."""


class Days:
    """Three nodes that know each other, and what may befall them."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.nodes = {name: net.node(name) for name in NAMES}
        self.number = self.moves = self.restarts = 0
        for one, other in PAIRS:
            net.connect(self.nodes[one], self.nodes[other])

    def lossy_minutes(self) -> None:
        self.net.faults = Faults(loss=0.2, double=0.1, late=0.2)
        self.live(10)

    def dead_minutes(self) -> None:
        self.net.faults = Faults(loss=1)
        self.live(10)

    def another_address(self) -> None:
        self.moves += 1
        self.nodes["bob"].socket.move(f"10.9.{self.moves}.1")
        self.nodes["bob"].session.show_up()

    def clock_set_forward(self) -> None:
        self.nodes["alice"].wall_offset_ns += 7 * 24 * HOUR_S * S

    def clock_set_back(self) -> None:
        self.nodes["alice"].wall_offset_ns -= 8 * 24 * HOUR_S * S

    def restart(self) -> None:
        old = self.nodes["carol"]
        floor = old.session.contacts.last_timestamp_sent
        old.session.close()
        old.task.cancel()
        self.net.run(0.001)
        self.net.nodes.remove(old)
        # Another life draws other random bytes.
        self.restarts += 1
        draw = Random(f"carol {self.restarts}").randbytes
        new = self.nodes["carol"] = self.net.node("carol", old.socket.source[0], random_bytes=draw)
        new.session.contacts.timestamp_floor = floor
        for name in ("alice", "bob"):
            new.call(self.nodes[name])

    def transfer(self) -> None:
        for _ in range(200):
            self.send(self.nodes["alice"], self.nodes["bob"], 60_000)
            self.net.run(0.005)

    def nothing(self) -> None:
        pass

    def live(self, minutes: int) -> None:
        """Let minutes pass in which everybody says a little to everybody."""
        for _ in range(minutes):
            for one, other in PAIRS:
                self.send(self.nodes[one], self.nodes[other], 100)
                self.send(self.nodes[other], self.nodes[one], 100)
            self.net.run(MINUTE_S)
            for node in self.nodes.values():
                node.firewall.expire(self.net.now)
            self.forget()

    def send(self, sender: Node, receiver: Node, size: int) -> None:
        self.number += 1
        ports = (1024 + self.number % 40_000, 7)
        packet = packets.tcp(sender.address, receiver.address, bytes(size), ports=ports)
        sender.tun.program_sends(packet, segment=1200)

    def forget(self) -> None:
        """Drop what the fakes recorded: it is not the nodes' own."""
        assert max(self.net.sealed.values(), default=0) <= 1, "a counter was used again"
        self.net.sealed.clear()
        self.net.wire.clear()
        for node in self.nodes.values():
            node.socket.calls.clear()
            assert all(map(packets.is_sound, node.tun.received))
            node.tun.received.clear()
            node.tun.written.clear()

    def check_that_all_works(self) -> None:
        for one, other in ((*pair[::turn],) for pair in PAIRS for turn in (1, -1)):
            sender, receiver = self.nodes[one], self.nodes[other]
            packet = packets.tcp(sender.address, receiver.address, bytes(30_000), ports=(9, 9))
            receiver.tun.received.clear()
            sender.tun.program_sends(packet, segment=1200)
            self.net.run(0.05)
            assert receiver.tun.received == packets.segments(packet, 1200), f"{one} to {other}"
            assert sender.peer(receiver).burst_limit > 0

    def held(self) -> Mapping[str, int]:
        """How much each table of the nodes holds, and how many objects there are in all."""
        counts: Counter[str] = Counter()
        for name, node in self.nodes.items():
            session = node.session
            counts[f"{name}: peers"] = len(session.contacts)
            counts[f"{name}: keypairs"] = len(session.gate.keypairs)
            counts[f"{name}: timers"] = len(session._timers)
            counts[f"{name}: flows"] = node.firewall.flows
            counts[f"{name}: reasons"] = len(node.drops)
            counts[f"{name}: endpoints"] = sum(len(peer.endpoints.known) for peer in session.contacts)
            counts[f"{name}: unfinished"] = sum(peer.joiner.unfinished for peer in session.contacts)
        gc.collect()
        counts["objects"] = len(gc.get_objects())
        return counts


HOURS: tuple[Callable[[Days], None], ...] = (
    Days.nothing,
    Days.lossy_minutes,
    Days.transfer,
    Days.another_address,
    Days.dead_minutes,
    Days.clock_set_back,
    Days.restart,
    Days.clock_set_forward,
)
BOUNDS = {"peers": 2, "keypairs": 12, "timers": 60, "flows": 4_000, "reasons": 30, "endpoints": 16, "unfinished": 16}
OBJECTS_GROWTH = 1.2


@pytest.mark.parametrize("hours", [3, pytest.param(72, marks=pytest.mark.long)])
def test_nodes_work_for_days_and_hold_no_more_than_on_the_first_one(hours: int) -> None:
    with Net(seed=hours) as net:
        days = Days(net)
        objects = 0
        for hour in range(hours):
            HOURS[hour % len(HOURS)](days)
            net.faults = Faults()
            days.live(50)
            days.check_that_all_works()
            days.forget()
            held = days.held()
            over = {what: count for what, count in held.items() if count > BOUNDS.get(what.partition(": ")[2], count)}
            assert not over, f"after {hour + 1} hours"
            if hour == WARM_UP_HOURS:
                objects = held["objects"]
        assert held["objects"] < OBJECTS_GROWTH * objects
