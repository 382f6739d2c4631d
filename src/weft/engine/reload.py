"""A running node takes another configuration: all of it, or nothing.

What may fail comes first, and is undone if something after it does: listeners are opened and marked, the secret is
read, the interface gets its addresses, the file is written. What follows then can't fail: listeners that are gone are
closed and their peers reached by others, and everything else is set.

Some keys count only when the interface is made or the daemon starts (keys.py); those are named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from weft.engine.config import Config
from weft.engine.keys import BY_NAME, KEYS
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Endpoint, Peer
from weft.engine.record import record_of
from weft.engine.session import Session
from weft.engine.settings import Reloaded
from weft.io.logs import set_level
from weft.io.udp import UdpSocket
from weft.multiaddr import Multiaddr

Prepare = Callable[[], tuple[Config, Callable[[], Awaitable[None]]]]


class Reloading:
    """Brings a node from one configuration to the next, one after the other.

    Args:
        life: of the node.
    """

    def __init__(self, life: Lifetime) -> None:
        self._life = life
        self._started_with = life.config
        self._changing = asyncio.Lock()

    async def take(self, prepare: Prepare, must_open: Multiaddr | None = None) -> Reloaded:
        """Take another configuration.

        Args:
            prepare: gives it, and what is to be done once it is clear that it can be taken and before it is.
            must_open: a listener that has to be opened, even if this machine has no such address now.

        Raises:
            WeftError: it can't be taken, or what was to be done failed; nothing has changed then.
            PermissionError: likewise.
        """
        async with self._changing:
            config, last = prepare()
            return await self._take(config, last, must_open)

    async def _take(self, config: Config, last: Callable[[], Awaitable[None]], must_open: Multiaddr | None) -> Reloaded:
        life, old = self._life, self._life.config
        psk = life.memory.network_psk(config)
        async with life.opening, AsyncExitStack() as undo:
            prepared = life.underlay.prepare(config.listeners, config.peer.fwmark, must_open)
            undo.callback(prepared.abandon)
            if life.interface is not None:
                undo.push_async_callback(life.interface.set_addresses, life.interface.addresses)
                await life.interface.set_addresses(config.fc00.interface_addresses)
                undo.push_async_callback(life.interface.set_overlay_routes, life.interface.routes)
                await life.interface.set_overlay_routes(config.fc00.routes)
            await last()
            undo.pop_all()
            life.config = config
        life.underlay.take(prepared)
        applied = self._applied(old, config)
        if prepared.opened or prepared.leaving:
            applied.add("peer.listen")
            await self._change_sockets(prepared.opened, prepared.leaving)
        if psk != life.terms.network_psk:
            applied.add("network.secret_file")
        self._set(old, config, psk)
        names = [key.name for key in KEYS if key.name in applied]
        if names:
            life.events.publish("config-changed", f"changed: {', '.join(names)}")
        return Reloaded(applied=names, needs_restart=self.waiting())

    def waiting(self) -> list[str]:
        """Keys whose value counts when the daemon or the interface starts anew."""
        return [key.name for key in KEYS if self._waits(key.name, key.applies)]

    def _waits(self, name: str, applies: str) -> bool:
        value, before = self._life.config.value(name), self._started_with.value(name)
        interface = self._life.interface
        if name == "fc00.device":
            return interface is not None and value not in {"auto", interface.kind}
        if applies == "when the interface is made":
            return interface is not None and interface.kind == "tun" and interface.device.name != value
        return applies == "when the daemon starts" and value != before

    def _applied(self, old: Config, new: Config) -> set[str]:
        changed = {key.name for key in KEYS if old.value(key.name) != new.value(key.name)}
        return {name for name in changed if BY_NAME[name].applies != "when the daemon starts"} - set(self.waiting())

    def _set(self, old: Config, new: Config, psk: bytes) -> None:
        """Set what is no socket and no address."""
        life, terms = self._life, self._life.terms
        if new.log.level != old.log.level:
            set_level(new.log.level)
        life.firewall.set_refuse(new.fc00.refuse)
        before = terms.keepalive_ns, terms.accepts_unknown, terms.network_psk
        now = new.peer.keepalive_s * 1_000_000_000, new.peer.accept == "any", psk
        terms.keepalive_ns, terms.accepts_unknown, terms.network_psk = now
        if (session := life.session) is None:
            return
        for peer in session.contacts:
            if now != before:
                self._renew(session, peer, is_other_network=psk != before[2])
            if new.peer.fwmark != old.peer.fwmark:
                # Rules may give marked packets another way.
                session.proving.handle_way_changed(peer, terms.clock())

    def _renew(self, session: Session, peer: Peer, *, is_other_network: bool) -> None:
        """Let a peer have what the terms say now."""
        if peer.standing == "stranger" and not self._life.terms.accepts_unknown:
            session.remove(peer)
            self._life.memory.handle_change()
            return
        session.contacts.put(peer.tunnel.peer_public, record_of(peer))
        if is_other_network and peer.is_weft:
            # Who is not of the network any more must not go on with what was agreed before.
            session.end(peer)
            if peer.standing != "known":
                session.call(peer, None)
        else:
            session.attend(peer)

    async def _change_sockets(self, opened: list[UdpSocket], leaving: list[UdpSocket]) -> None:
        """Listen on what is new, and no longer on what leaves; whoever was reached by that is reached otherwise."""
        life = self._life
        for socket in leaving:
            await life.ignore(socket)
        if life.session is not None:
            for socket in opened:
                life.listen(socket)
            for peer in life.session.contacts:
                self._reach(life.session, peer, leaving)
        for socket in leaving:
            socket.flush()
            life.drops.update(socket.drops)
            socket.close()
        bound = ", ".join(each.multiaddr for each in life.underlay.listeners())
        life.events.publish("listeners-changed", f"listening on {bound}")

    def _reach(self, session: Session, peer: Peer, leaving: list[UdpSocket]) -> None:
        """Find another way to a peer whose socket leaves: another socket of the family, else another endpoint."""
        endpoint = peer.path.endpoint
        if not isinstance(endpoint, Endpoint):
            self._life.dialler.call(peer)
            return
        if endpoint.socket not in leaving:
            return
        sockets = self._life.underlay.sockets
        other = next((each for each in sockets if each.is_ipv6 == endpoint.socket.is_ipv6), None)
        if other is None:
            session.end(peer)
            session.proving.leave(peer)
            self._life.dialler.call(peer)
            return
        now = self._life.terms.clock()
        session.proving.handle_socket_changed(peer, other, now)
        if peer.tunnel.is_up(now):
            session.ask_for_sign(peer)
        self._life.dialler.doubt(peer)
