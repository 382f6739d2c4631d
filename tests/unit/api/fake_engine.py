"""A node without a network, and the real API server in front of it."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from msgspec.structs import replace

from weft.api.loopback import Loopback
from weft.api.server import Server
from weft.api.unix_socket import ApiSocket
from weft.engine.change import Change
from weft.engine.config import Config
from weft.engine.device import Device, DeviceChange, DeviceConfig, PeerSettings
from weft.engine.effective import describe_config
from weft.engine.events import Events
from weft.engine.listeners import ListenerList, ListenerStatus, TransportList, TransportStatus
from weft.engine.metric import Family, Histogram
from weft.engine.observed import Captured, CapturedPacket, Packet, Trace, TraceStep
from weft.engine.settings import ConfigStatus, Reloaded
from weft.engine.status import (
    DeviceKind,
    Event,
    EventKind,
    Info,
    Interface,
    Listener,
    LogLevel,
    LogLine,
    LogList,
    PeerList,
    PeerStatus,
    Pong,
    Ports,
    Status,
    TaskStatus,
)
from weft.errors import PeerError, UsageError

ID = "12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"
KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


def a_peer(name: str = "loom", **changes: object) -> PeerStatus:
    peer = PeerStatus(
        id=ID,
        name=name,
        kind="weft",
        addresses=["fc11::1"],
        wireguard_public_key=KEY,
        state="up",
        endpoint="192.0.2.1:1312",
        path="direct",
        mode="burst",
        burst_pieces=44,
        path_mtu=1500,
        loss=0.0,
        rtt_ms=1.25,
        handshake_age_s=3.0,
        tx_bytes=1234,
        rx_bytes=5_600_000,
    )
    return replace(peer, **changes)


class FakePeers:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine, self._did = engine, engine.did

    def list(self) -> PeerList:
        self._did("peers")
        return PeerList(peers=self._engine.peer_list)

    def addresses_of(self, name: str) -> builtins.list[bytes]:
        return []

    async def connect(self, target: str, timeout_s: float = 10.0, *, name: str | None = None) -> PeerStatus:
        self._did("connect", target, timeout_s, *([name] if name is not None else []))
        if self._engine.blocks is not None:
            await self._engine.blocks.wait()
        return self._engine.peer_list[0]

    async def disconnect(self, peer: str) -> None:
        self._did("disconnect", peer)
        if peer != "loom":
            raise UsageError(f"no peer {peer!r}")

    async def persist(self, peer: str) -> PeerStatus:
        self._did("persist", peer)
        return a_peer(peer, standing="wanted")

    async def set(self, peer: str, change: Change, *, take: bool = False) -> PeerStatus:
        self._did("set", peer, change, take)
        return a_peer(change.name or peer)

    async def remove(self, peer: str) -> None:
        self._did("remove", peer)

    async def block(self, peer: str) -> PeerStatus:
        self._did("block", peer)
        return a_peer(peer, standing="blocked", state="blocked")

    async def unblock(self, peer: str) -> PeerStatus:
        self._did("unblock", peer)
        return a_peer(peer, standing="known", state="idle")

    async def add(self, peer: str, endpoints: builtins.list[str], *, name: str | None = None) -> PeerStatus:
        self._did("add", peer, endpoints, name)
        return a_peer(name or peer, state="connecting")

    async def add_wireguard(
        self,
        public_key: str,
        *,
        name: str | None = None,
        allowed_ips: builtins.list[str],
        endpoint: str | None = None,
        preshared_key: str | None = None,
        keepalive_s: int | None = None,
        take: bool = False,
    ) -> PeerStatus:
        self._did("add_wireguard", public_key, name, allowed_ips, endpoint, preshared_key, keepalive_s)
        return a_peer(name, id=None, kind="wireguard", addresses=allowed_ips, mode="packet", state="idle", rtt_ms=None)

    async def ping(self, peer: str, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        self._did("ping", peer, timeout_s, size)
        if peer == "silent":
            raise PeerError("no answer within 5 s")
        return Pong(peer=peer, address="fc11::1", path="direct", endpoint="192.0.2.1:1312", rtt_ms=1.5, size=size or 64)


class FakeFc00:
    def __init__(self, engine: FakeEngine) -> None:
        self._did = engine.did
        self.interface = Interface(up=False)
        self.rules = ["/icmp"]
        self.names: dict[str, str] = {}

    async def start(
        self,
        ifname: str | None = None,
        *,
        existing: bool = False,
        socket: str | None = None,
        device: DeviceKind | None = None,
    ) -> Interface:
        if device == "stack":
            self._did("fc00_start_stack")
        else:
            self._did("fc00_start", ifname, *(["existing"] if existing else []), *filter(None, (socket, device)))
        self.interface = Interface(
            up=True,
            device=device or "tun",
            ifname=None if device == "stack" else ifname or "weft0",
            address="fc22::1",
            mtu=1352,
            offloads=["tso4"],
        )
        return self.interface

    async def stop(self) -> None:
        self._did("fc00_stop")
        self.interface = Interface(up=False)

    def status(self) -> Interface:
        return self.interface

    async def allow(self, rules: list[str]) -> Ports:
        self._did("fc00_allow", rules)
        self.rules += rules
        return self.ports()

    async def deny(self, rules: list[str]) -> Ports:
        self._did("fc00_deny", rules)
        self.rules = [rule for rule in self.rules if rule not in rules]
        return self.ports()

    def ports(self) -> Ports:
        listening = ["/tcp/80", "/icmp"] if self.interface.device == "stack" else None
        return Ports(allow=self.rules, listening=listening, peers=self.names, refuse="reject")


class FakeLogs:
    def __init__(self) -> None:
        self.lines = [
            LogLine(number=1, at=1_700_000_000.0, level="info", logger="weft.engine", text="the node starts"),
            LogLine(number=2, at=1_700_000_001.5, level="error", logger="weft.engine", text="task udp died"),
        ]

    def list(self, lines: int, level: LogLevel) -> LogList:
        wanted = [line for line in self.lines if level != "error" or line.level == "error"]
        return LogList(lines=wanted[max(len(wanted) - lines, 0) :])

    async def follow(self, lines: int, level: LogLevel) -> AsyncIterator[LogLine]:
        for line in self.list(lines, level).lines:
            yield line
        yield LogLine(number=3, at=1_700_000_002.0, level="warning", logger="weft.io", text="and on it goes")


class FakeWireguard:
    def __init__(self, engine: FakeEngine) -> None:
        self._did = engine.did
        self.shown = Device(private_key=bytes(32), listen_port=1312, fwmark=0, peers=())
        self.endpoints = ["192.0.2.9:1312"]

    def device(self) -> Device:
        self._did("device")
        return self.shown

    async def change(self, change: DeviceChange) -> None:
        self._did("change", change)

    async def add(
        self, devices: builtins.list[PeerSettings], addresses: builtins.list[str]
    ) -> builtins.list[PeerStatus]:
        self._did("add", devices, addresses)
        return [
            a_peer(
                each.name, id=None, kind="wireguard", addresses=each.allowed_ips, wireguard_public_key=each.public_key
            )
            for each in devices
        ]

    def config(self, peer: str | None) -> DeviceConfig:
        self._did("config", peer)
        return DeviceConfig(
            name=peer,
            device_public_key=None if peer is None else KEY,
            addresses=[] if peer is None else ["10.7.0.2/32"],
            public_key=KEY,
            preshared_key=None if peer is None else KEY,
            allowed_ips=["fc00::/8", "10.7.0.0/24"],
            endpoints=self.endpoints,
        )


class FakePackets:
    def __init__(self, engine: FakeEngine) -> None:
        self._did = engine.did
        self.told = [Captured(packets=[A_PACKET], missed=0)]

    def trace_in(self, packet: Packet, peer: str) -> Trace:
        self._did("trace_in", packet, peer)
        return Trace(
            direction="in",
            packet="fc11::1.49152 > fc22::1.22: tcp [S], length 0",
            peer=peer,
            verdict="reject",
            rule=None,
            reason="no rule allows it",
            answer="fc22::1.22 > fc11::1.49152: tcp [R.], length 0",
            steps=[
                TraceStep(stage="source", text="fc11::1 belongs to loom"),
                TraceStep(stage="rule", text="/icmp: no"),
            ],
        )

    def trace_out(self, packet: Packet) -> Trace:
        self._did("trace_out", packet)
        return Trace(
            direction="out",
            packet="fc22::1.49152 > fc11::1.80: tcp [S], length 0",
            peer="loom",
            verdict="send",
            rule=None,
            reason=None,
            answer=None,
            steps=[TraceStep(stage="route", text="fc11::1 belongs to loom")],
        )

    async def capture(self, *, peer: str | None, snap: int, dropped: bool) -> AsyncIterator[Captured]:
        self._did("capture", peer, snap, dropped)
        for captured in self.told:
            yield captured


A_PACKET = CapturedPacket(
    time_ns=1_750_000_000_123_456_789,
    direction="out",
    peer="loom",
    length=40,
    segment=0,
    dropped=None,
    data=bytes.fromhex("4500002800004000400626ce0a0000010a0000029c40001600000000000000005002ffff00000000"),
)


class FakeNames:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    async def resolve(self, name: str, family: int) -> list[bytes]:
        self._engine.did("resolve", name, family)
        return [bytes([192, 0, 2, 1]), bytes([0xFC, *bytes(14), 1])]


class FakeTasks:
    def __init__(self, engine: FakeEngine) -> None:
        self._did = engine.did

    def list(self) -> builtins.list[TaskStatus]:
        return [TaskStatus(name="udp", state="running", restarts=1)]

    async def restart(self, name: str) -> TaskStatus:
        self._did("restart_task", name)
        if name != "udp":
            raise UsageError(f"no task {name!r}")
        return TaskStatus(name="udp", state="running", restarts=2)


class FakeSettings:
    """Keeps what is set; `peer.accept` counts at once, all else later."""

    def __init__(self, engine: FakeEngine) -> None:
        self._did = engine.did
        self.config = Config()

    def show(self) -> ConfigStatus:
        self._did("config_show")
        return describe_config(self.config, Path("/nowhere/weft.toml"), ["log.file"])

    async def reload(self) -> Reloaded:
        self._did("reload")
        return Reloaded(applied=["peer.listen", "fc00.refuse"], needs_restart=["log.file"])

    async def set(self, key: str, value: object) -> Reloaded:
        self._did("config_set", key, value)
        at_once = key == "peer.accept"
        return Reloaded(applied=[key] * at_once, needs_restart=[key] * (not at_once))


class FakeListeners:
    def __init__(self, engine: FakeEngine) -> None:
        self._did = engine.did
        self.addresses = ["/ip4/0.0.0.0/udp/1312", "/ip6/::/udp/1312"]

    def list(self) -> ListenerList:
        return ListenerList(
            listeners=[
                ListenerStatus(
                    multiaddr=each,
                    transport="ip4",
                    state="open",
                    bound=each,
                    offloads=["gso"],
                    drops={"udp: too big": 1},
                )
                if each.startswith("/ip4/")
                else ListenerStatus(multiaddr=each, transport="ip6", state="off")
                for each in self.addresses
            ]
        )

    async def start(self, multiaddr: str) -> ListenerList:
        self._did("listener_start", multiaddr)
        self.addresses.append(multiaddr)
        return self.list()

    async def stop(self, multiaddr: str) -> ListenerList:
        self._did("listener_stop", multiaddr)
        if multiaddr not in self.addresses:
            raise UsageError(f"no listener {multiaddr}")
        self.addresses.remove(multiaddr)
        return self.list()


class FakeTransports:
    def __init__(self, engine: FakeEngine) -> None:
        self._did = engine.did
        self.enabled = {"ip4": True, "ip6": False}

    def list(self) -> TransportList:
        return TransportList(
            transports=[
                TransportStatus(name=name, about=f"UDP over IPv{name[2]}", enabled=is_on, listeners=[])
                for name, is_on in self.enabled.items()
            ]
        )

    async def enable(self, name: str) -> TransportList:
        self._did("transport_enable", name)
        self._check(name)
        self.enabled[name] = True
        return self.list()

    async def disable(self, name: str) -> TransportList:
        self._did("transport_disable", name)
        self._check(name)
        self.enabled[name] = False
        return self.list()

    def _check(self, name: str) -> None:
        if name not in self.enabled:
            raise UsageError(f"no transport {name!r}")


class FakeEngine:
    """Does what the facade says in memory, records the calls, and raises what `fails` holds for a verb."""

    def __init__(self, directory: Path | None = None, config: Config | None = None) -> None:
        self.directory, self.config = directory, config
        self.calls: list[tuple[object, ...]] = []
        self.fails: dict[str, BaseException] = {}
        self.peer_list = [a_peer()]
        self.peers, self.fc00, self.tasks = FakePeers(self), FakeFc00(self), FakeTasks(self)
        self.packets = FakePackets(self)
        self.names = FakeNames(self)
        self.logs = FakeLogs()
        self.wireguard = FakeWireguard(self)
        self.happened = Events()
        self.measured: list[Family | Histogram] = []
        self.settings, self.listeners, self.transports = FakeSettings(self), FakeListeners(self), FakeTransports(self)
        self.driver = None
        self.is_healthy = True
        self.stop_asked = asyncio.Event()
        self.blocks: asyncio.Event | None = None

    def did(self, verb: str, *values: object) -> None:
        self.calls.append((verb, *values))
        if verb in self.fails:
            raise self.fails[verb]

    async def start(self) -> None:
        self.did("start")

    async def stop(self) -> None:
        self.did("stop")

    async def wait_stopped(self) -> None:
        await self.stop_asked.wait()

    def info(self) -> Info:
        self.did("info")
        return Info(
            id=ID,
            address="fc22::1",
            wireguard_public_key=KEY,
            multiaddrs=[f"/ip4/192.0.2.9/udp/1312/p2p/{ID}"],
            version="0.1.0",
            dir=str(self.directory),
            pid=os.getpid(),
        )

    def status(self) -> Status:
        self.did("status")
        return Status(
            info=self.info(),
            listeners=[Listener(multiaddr="/ip4/0.0.0.0/udp/1312", offloads=["gso", "gro"])],
            interface=self.fc00.interface,
            peers=self.peer_list,
            tasks=self.tasks.list(),
            session_restarts=0,
            drops={"unknown": 2},
        )

    def events(self, kinds: frozenset[EventKind] = frozenset()) -> AsyncIterator[Event]:
        self.did("events", kinds)
        return self.happened.listen(kinds)

    def metrics(self) -> Iterator[Family | Histogram]:
        self.did("metrics")
        yield from self.measured

    def request_stop(self) -> None:
        self.did("request_stop")
        self.stop_asked.set()


@contextlib.asynccontextmanager
async def serving(engine: FakeEngine, path: Path, loopback: Loopback | None = None, *, patience_s: float = 10.0):
    with ApiSocket(path) as socket:
        server = Server(engine, socket, loopback, patience_s=patience_s)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@contextlib.contextmanager
def serving_in_thread(path: Path) -> Iterator[FakeEngine]:
    """For synchronous tests: the server runs on the loop of a thread until the block ends or the node is stopped."""
    ready, engines, over = threading.Event(), [], []

    async def main() -> None:
        engine = FakeEngine()
        async with serving(engine, path):
            over.append((asyncio.get_running_loop(), engine.stop_asked))
            engines.append(engine)
            ready.set()
            await engine.stop_asked.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield engines[0]
    finally:
        loop, stop = over[0]
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(10)
