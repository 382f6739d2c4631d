"""A daemon that is killed at random moments, under traffic: what it acknowledged is there after each restart.

What was under way when it died may have happened or not; what was answered has happened. `make test` kills it a few
times, `make long` for ten minutes.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from tests.system.node import Node, connected_pair
from tests.system.process import kill
from tests.system.traffic import flowing, wait_until_all_go_on
from weft.api.client import NoDaemon
from weft.api.v0 import config as config_api
from weft.api.v0 import fc00 as fc00_api
from weft.api.v0 import peer as peer_api
from weft.api.v0.route import Route
from weft.engine.config import load_config
from weft.errors import Broken
from weft.identity import encode_wireguard_key
from weft.io.store import Store

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

LIFE_S = (0.02, 2.0)
"""How long a daemon may live after its start, at least and at most."""
PAUSE_S = 150
DEVICES = 20
KEYS = [encode_wireguard_key(random.Random(f"device {number}").randbytes(32)) for number in range(DEVICES)]


@dataclass(frozen=True)
class Device:
    """What is settled about a stock peer."""

    name: str
    allowed: tuple[str, ...]
    keepalive_s: int
    standing: str


@dataclass(frozen=True)
class Settled:
    """What a node was told, beside its peer of the traffic."""

    rules: frozenset[str]
    devices: Mapping[str, Device] = field(default_factory=dict)
    keepalive_s: int = 25

    def having(self, key: str, device: Device) -> Settled:
        return replace(self, devices={**self.devices, key: device})

    def against(self, found: Settled) -> str:
        """What differs, for the report of a failure."""
        keys = {*self.devices, *found.devices}
        devices = [
            f"{self.devices.get(key)} is {found.devices.get(key)}"
            for key in keys
            if self.devices.get(key) != found.devices.get(key)
        ]
        return f"{self.rules ^ found.rules}, {devices}, {self.keepalive_s} is {found.keepalive_s}"

    def without(self, key: str) -> Settled:
        return replace(self, devices={other: each for other, each in self.devices.items() if other != key})


@dataclass(frozen=True)
class Request:
    """One request, and what is settled once it was answered."""

    route: Route[Any, Any]
    parameters: msgspec.Struct
    after: Settled


def allow(now: Settled, chance: random.Random) -> Request:
    rule = f"/tcp/{2000 + chance.randrange(50)}"
    return Request(fc00_api.ALLOW, fc00_api.ChangePorts(rules=[rule]), replace(now, rules=now.rules | {rule}))


def deny(now: Settled, chance: random.Random) -> Request | None:
    rules = sorted(rule for rule in now.rules if rule.startswith("/tcp/2"))
    if not rules:
        return None
    rule = chance.choice(rules)
    return Request(fc00_api.DENY, fc00_api.ChangePorts(rules=[rule]), replace(now, rules=now.rules - {rule}))


def add(now: Settled, chance: random.Random) -> Request | None:
    number = chance.randrange(DEVICES)
    if KEYS[number] in now.devices:
        return None
    device = Device(f"device-{number}", (f"10.99.{number}.0/24",), 0, "wanted")
    asked = peer_api.AddWireguard(public_key=KEYS[number], name=device.name, allowed_ips=list(device.allowed))
    return Request(peer_api.ADD_WIREGUARD, asked, now.having(KEYS[number], device))


def change(now: Settled, chance: random.Random) -> Request | None:
    number = chance.randrange(DEVICES)
    old = now.devices.get(KEYS[number])
    if old is None or old.standing == "blocked":
        return None
    allowed = (f"10.99.{number}.{chance.randrange(256)}/32", f"fd99:{number + 1}::/64")
    device = Device(f"device-{number}-{chance.randrange(1000)}", allowed, chance.randrange(1, 100), old.standing)
    asked = peer_api.Set(peer=KEYS[number], name=device.name, allowed_ips=list(allowed), keepalive_s=device.keepalive_s)
    return Request(peer_api.SET, asked, now.having(KEYS[number], device))


def stand(route: Route[Any, Any], standing: str, *allowed_before: str) -> Draw:
    """A request that changes the standing of a peer."""

    def draw(now: Settled, chance: random.Random) -> Request | None:
        keys = sorted(key for key, device in now.devices.items() if device.standing in allowed_before)
        if not keys:
            return None
        key = chance.choice(keys)
        after = now.having(key, replace(now.devices[key], standing=standing)) if standing else now.without(key)
        return Request(route, peer_api.Whom(peer=key), after)

    return draw


def configure(now: Settled, chance: random.Random) -> Request:
    seconds = chance.randrange(5, 60)
    return Request(
        config_api.SET,
        config_api.SetKey(key="peer.keepalive_s", value=seconds),
        replace(now, keepalive_s=seconds),
    )


Draw = Callable[[Settled, random.Random], Request | None]
DRAWS: tuple[Draw, ...] = (
    allow,
    deny,
    add,
    add,
    change,
    configure,
    stand(peer_api.REMOVE, "", "wanted", "known", "blocked"),
    stand(peer_api.BLOCK, "blocked", "wanted", "known"),
    stand(peer_api.UNBLOCK, "known", "blocked"),
    stand(peer_api.DISCONNECT, "known", "wanted"),
    stand(peer_api.PERSIST, "wanted", "known"),
)


def ask_until_it_dies(node: Node, now: Settled, chance: random.Random) -> tuple[Settled, Settled, int]:
    """Ask for one thing after the other.

    Returns:
        What is settled for sure, what may be settled instead, and how many requests were answered.
    """
    answered = 0
    while True:
        request = chance.choice(DRAWS)(now, chance)
        if request is None:
            continue
        try:
            node.client.call(request.route, request.parameters)
        except (Broken, NoDaemon):
            return now, request.after, answered
        now, answered = request.after, answered + 1


def remembered(node: Node) -> Settled:
    """What the files of a node say while no daemon runs."""
    state = Store(node.directory).load_state()
    devices = {
        peer.key: Device(peer.name or "", tuple(peer.allowed_ips), peer.keepalive_s, peer.standing)
        for peer in state.peers
        if peer.kind == "wireguard"
    }
    return Settled(frozenset(state.allow), devices, load_config(node.directory / "weft.toml").peer.keepalive_s)


def told(node: Node) -> Settled:
    """What a running node says."""
    devices = {
        peer.wireguard_public_key: Device(
            peer.name or "", tuple(str(ip_network(each)) for each in peer.addresses), peer.keepalive_s, peer.standing
        )
        for peer in node.peers()
        if peer.kind == "wireguard"
    }
    (seconds,) = (key.value for key in node.client.call(config_api.SHOW).keys if key.key == "peer.keepalive_s")
    assert isinstance(seconds, int)
    return Settled(frozenset(node.client.call(fc00_api.PORTS).allow), devices, seconds)


@pytest.mark.parametrize("seconds", [12, pytest.param(600, marks=pytest.mark.long)])
def test_daemon_killed_at_random_moments_under_traffic_remembers_what_it_acknowledged(seconds: int) -> None:
    chance = random.Random(seconds)
    kills = answered = 0
    # TCP doubles its pause, up to two minutes, each time that it meets a daemon that is down.
    with connected_pair() as pair, flowing(pair.alice.host, pair.bob.host, pair.bob.address, PAUSE_S) as flows:
        node = pair.alice
        now = remembered(node)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            killer = threading.Timer(chance.uniform(*LIFE_S), kill, (node.info.pid,))
            killer.start()
            now, instead, asked = ask_until_it_dies(node, now, chance)
            killer.join()
            kills, answered = kills + 1, answered + asked
            found = remembered(node)
            assert found in (now, instead), (
                f"after {kills} kills and {answered} answers: {now.against(found)}, or {instead.against(found)}"
            )
            now = found
            node.up()
            assert told(node) == now
            with suppress(AssertionError):
                wait_until_all_go_on(flows, 1)
        wait_until_all_go_on(flows, PAUSE_S)
        assert pair.bob.peer(node).state == "up"
    print(f"killed {kills} times, {answered} requests answered")
    assert kills >= seconds / 4
    assert answered >= kills
