"""The node: what a program or the daemon starts, asks and stops.

Not done here: what it is made of (lifetime.py); what is asked of its peers, interface and so on (verbs/); the HTTP API
(api/), which calls the methods of this class and of its verbs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv6Address
from pathlib import Path

from weft import __version__
from weft.engine.config import Config
from weft.engine.driver import Driver
from weft.engine.lifetime import Lifetime
from weft.engine.logbook import Logbook
from weft.engine.metric import Family, Histogram
from weft.engine.metrics import Metrics
from weft.engine.passed import Passed
from weft.engine.status import Event, EventKind, Info, Status
from weft.engine.verbs.fc00 import Fc00
from weft.engine.verbs.listeners import Listeners, Transports
from weft.engine.verbs.names import Names
from weft.engine.verbs.packets import Packets
from weft.engine.verbs.peers import Peers
from weft.engine.verbs.settings import Settings
from weft.engine.verbs.tasks import Tasks
from weft.engine.verbs.wireguard import Wireguard
from weft.identity import PeerId, encode_wireguard_key
from weft.io.backend import Backend
from weft.io.ephemeral import Ephemeral


class Engine:
    """One node.

    Args:
        home: the directory of key and state, made by `weft init`; or what stands for it if the node keeps nothing.
        config: of `weft.toml`.
        passed: descriptors that the process was given when it started.
        keeps_log: whether `logs` has the last lines that the process logged; a program may do without.

    Attributes:
        peers: whom it talks to.
        fc00: its interface and firewall.
        names: what they lead to.
        packets: what passes, and what would.
        settings: its configuration.
        listeners: where it listens.
        transports: what carries its tunnels.
        tasks: what runs inside it.
        wireguard: it, as `wg` sees it.
        logs: what it logged.

    Raises:
        ConfigError: another daemon has the directory, or a file in it is wrong.
    """

    def __init__(
        self, home: Path | Ephemeral, config: Config, passed: Passed | None = None, *, keeps_log: bool = True
    ) -> None:
        self._keeps_log = keeps_log
        self._life = Lifetime(home, config, passed)
        self._metrics = Metrics(self._life)
        self._stopping = asyncio.Event()
        self.peers = Peers(self._life)
        self.fc00 = Fc00(self._life)
        self.names = Names(self._life, self.peers.addresses_of)
        self.packets = Packets(self._life)
        self.tasks = Tasks(self._life)
        self.settings = Settings(self._life)
        self.listeners = Listeners(self._life, self.settings)
        self.transports = Transports(self._life, self.settings)
        self.wireguard = Wireguard(self._life, self.peers, self.settings)
        self.logs = Logbook(self._life.events)

    async def start(self) -> None:
        """Open the sockets, build the session, call all stored peers.

        Raises:
            TransportError: a listener's port is in use, or none could be opened.
        """
        if self._keeps_log:
            self.logs.open()
        try:
            await self._life.start()
        except BaseException:
            self.logs.close()
            raise

    async def stop(self) -> None:
        """Close everything; the state is saved."""
        await self._life.stop()
        self.logs.close()

    @property
    def is_healthy(self) -> bool:
        """Whether it does its work, or is at least about to do it again."""
        return self._life.is_healthy

    @property
    def driver(self) -> Driver | None:
        """Of the host inside this node; None while its interface is none, or a TUN."""
        return self._life.interface.driver if self._life.interface is not None else None

    @property
    def backend(self) -> Backend | None:
        """Where sockets in the network come from; None while it has no interface."""
        return self._life.interface.backend if self._life.interface is not None else None

    async def wait_stopped(self) -> None:
        """Return when the node was asked to end."""
        await self._stopping.wait()

    def request_stop(self) -> None:
        """Ask the node to end; returns at once."""
        self._stopping.set()

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self._life.identity.peer_id

    def multiaddrs(self, *, loopback: bool = False) -> list[str]:
        """What others can dial.

        Args:
            loopback: whether addresses of the loopback interface count where this machine has no others.
        """
        return self._life.underlay.multiaddrs(self.peer_id, loopback=loopback)

    def info(self) -> Info:
        """Who this node is and where it can be reached."""
        identity = self._life.identity
        return Info(
            id=str(identity.peer_id),
            address=str(IPv6Address(identity.address)),
            wireguard_public_key=encode_wireguard_key(identity.noise_public),
            multiaddrs=self.multiaddrs(),
            version=__version__,
            dir=str(self._life.directory or ""),
            pid=os.getpid(),
        )

    def status(self) -> Status:
        """Everything at one glance."""
        return Status(
            info=self.info(),
            listeners=self._life.underlay.listeners(),
            interface=self.fc00.status(),
            peers=self.peers.list().peers,
            tasks=self.tasks.list(),
            session_restarts=self._life.session_restarts,
            drops=dict(sorted(self._life.total_drops().items())),
        )

    def events(self, kinds: frozenset[EventKind] = frozenset()) -> AsyncIterator[Event]:
        """What happens from now on, until the iterator is closed; only of some kinds, or all."""
        return self._life.events.listen(kinds)

    def metrics(self) -> Iterator[Family | Histogram]:
        """What can be measured, metric by metric; others may run between two of them."""
        return self._metrics.read()
