"""Whom the node talks to: what is asked of it about its peers.

A verb that changes something returns when that is saved, or fails and has changed nothing (changes.py).
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from weft.engine import calling, dial
from weft.engine.change import Change
from weft.engine.changes import Changes
from weft.engine.contacts import Contacts, decode_key
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Endpoint, Peer
from weft.engine.record import new_record, record_of, title_of
from weft.engine.report import describe, describe_blocked
from weft.engine.session import Session
from weft.engine.settle import Step, checked_name, settled
from weft.engine.status import EventKind, PeerList, PeerStatus, Pong
from weft.engine.trial import Trial
from weft.errors import DecodeError, PeerError, UsageError
from weft.identity import PeerId, address_of, is_usable_address
from weft.io.clock import monotonic_ns
from weft.io.store import StoredPeer
from weft.multiaddr import Multiaddr


class Peers:
    """The peers of a node. A peer is named by id, name, address or public key."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life
        self._changes = Changes(life)

    def list(self) -> PeerList:
        """All peers, those that are blocked last; none while the session is built anew."""
        now = monotonic_ns()
        session = self._life.session
        if session is None:
            return PeerList(peers=[])
        blocked = [describe_blocked(key, record) for key, record in session.contacts.blocked.items()]
        return PeerList(peers=[*(describe(peer, now) for peer in session.contacts), *blocked])

    async def ping(self, peer: str, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer; see `calling.ping`."""
        return await calling.ping(self._life.running, peer, timeout_s, size)

    # Whom it calls.

    async def connect(self, target: str, timeout_s: float = 10.0, *, name: str | None = None) -> PeerStatus:
        """Call a peer and return when its tunnel is up; it is wanted from then on.

        Args:
            target: the multiaddr of a weft node; or a peer that there is, which is called at its known endpoints.
            timeout_s: how long.
            name: what to call it here.

        Raises:
            UsageError: the multiaddr is not one that can be dialled; nobody is called so, or has no endpoint; the name
                is somebody else's.
            TimeoutError: no answer; the message says what may be the reason.
            PeerError: it was removed or disconnected meanwhile.
            ConfigError: it could not be saved.
        """
        *_, address = _decode_target(self._life.running.contacts, target)
        endpoints = await self._life.underlay.find_all(address) if address is not None else []
        async with self._life.memory.changing:
            session = self._life.running
            key, peer_id, _ = _decode_target(session.contacts, target)
            trial = _try(session.contacts, key, peer_id, name)
            peer = session.contacts.by_key(key)
            assert peer is not None
        try:
            is_there = not endpoints or peer.path.endpoint in endpoints
            if not (is_there and await calling.answers(session, peer)):
                up = session.wait_until_up(peer)
                if endpoints:
                    await calling.at_each(session, peer, up, endpoints)
                elif peer.tunnel.is_up(monotonic_ns()):
                    session.call(peer, None)
                else:
                    self._life.dialler.call(peer)
                at = ", ".join(map(str, endpoints)) or "its known endpoints"
                await calling.until_up(up, at, timeout_s)
            async with self._life.memory.changing:
                await self._settle_connected(session, peer, name, address, endpoints)
        except BaseException:
            # Even if whoever asked for it goes once more.
            await asyncio.shield(self._give_up(session, key, trial))
            raise
        self._publish("peer-added" if trial.before is None else "peer-changed", record_of(peer), "is connected")
        return describe(peer, monotonic_ns())

    async def _settle_connected(
        self,
        session: Session,
        peer: Peer,
        name: str | None,
        address: Multiaddr | None,
        endpoints: builtins.list[Endpoint],
    ) -> None:
        """Save that a peer is wanted, now that it has come."""
        if peer.tunnel not in session.contacts.by_tunnel or not peer.is_wanted:
            raise PeerError("the peer was removed or disconnected meanwhile")
        record = record_of(peer)
        displaced = session.contacts.put(peer.tunnel.peer_public, replace(record, name=name or record.name))
        if address is not None:
            peer.endpoints.lead(address, *(endpoint.multiaddr for endpoint in endpoints))
            peer.endpoints.configure(address)
        await self._changes.commit(displaced)

    async def _give_up(self, session: Session, key: bytes, trial: Trial) -> None:
        """A peer that was called has not come: it is what it was before, unless somebody else waits for it."""
        contacts = session.contacts
        async with self._life.memory.changing:
            trial.callers -= 1
            if trial.callers or contacts.trials.get(key) is not trial:
                return
            del contacts.trials[key]
            peer = contacts.by_key(key)
            if peer is None:
                return
            if trial.before is None:
                session.remove(peer)
                return
            contacts.put(key, replace(record_of(peer), standing=trial.before.standing))
            if trial.before.standing == "known" and not peer.tunnel.is_up(monotonic_ns()):
                session.end(peer)
            self._life.memory.handle_change()

    async def disconnect(self, peer: str) -> None:
        """End the tunnel to a peer, and leave the next one to it; it stays in the list.

        Raises:
            UsageError: there is none of that name, or it is blocked.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            session = self._life.running
            found = session.contacts.find(peer)
            record = replace(record_of(found), standing="known")
            await self._changes.commit(session.contacts.put(found.tunnel.peer_public, record))
            if found.tunnel in session.contacts.by_tunnel:
                session.end(found)
        self._publish("peer-changed", record, "is disconnected")

    async def persist(self, peer: str) -> PeerStatus:
        """Want a peer: it is called now, at each start, and whenever it is missed.

        Raises:
            UsageError: there is none of that name, or it is blocked.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            contacts = self._life.running.contacts
            found = contacts.find(peer)
            record = replace(record_of(found), standing="wanted")
            await self._changes.commit(contacts.put(found.tunnel.peer_public, record))
            self._life.dialler.call(found)
        self._publish("peer-changed", record, "is wanted")
        return describe(found, monotonic_ns())

    # What it knows of them.

    def at(self, address: bytes) -> PeerStatus | None:
        """Who has an address of the overlay, 4 or 16 bytes; None if nobody does, or it is not known now."""
        session = self._life.session
        peer = session.contacts.routes.lookup(address) if session is not None else None
        return describe(peer, monotonic_ns()) if peer is not None else None

    def addresses_of(self, name: str) -> builtins.list[bytes]:
        """The addresses of the peer that is called so, in any case, 4 or 16 bytes each; none if nobody is."""
        session = self._life.session
        for peer in session.contacts if session is not None else ():
            if peer.name is not None and peer.name.lower() == name.lower():
                return [network.network_address.packed for network in peer.allowed if network.num_addresses == 1]
        return []

    async def add(self, peer: str, endpoints: builtins.list[str], *, name: str | None = None) -> PeerStatus:
        """Want a weft node, and call it, without waiting for it; endpoints take the place of those it had.

        Args:
            peer: its multiaddr, or its id.
            endpoints: where else it may be; if nobody says where, it has to call.
            name: what to call it here.

        Raises:
            UsageError: something can't be so.
            ConfigError: it could not be saved.
        """
        address, peer_id = _decode_peer(peer)
        key, places = peer_id.noise_public_key, [str(address), *endpoints] if address is not None else endpoints
        change = Change(endpoints=places) if name is None else Change(endpoints=places, name=name)

        def plan(contacts: Contacts) -> builtins.list[Step]:
            record = contacts.record(key) or new_record(key, peer_id, is_weft=True)
            record = settled(replace(record, key=str(peer_id), standing="wanted"), change)
            return [Step(key, record, change)]

        (added,) = await self.apply(plan)
        return added

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
        """Take a stock WireGuard device as a peer, and route its addresses to it.

        One that has the key already is changed to what is given; its session goes on. The endpoint may have a name that
        has no address yet.

        Args:
            public_key: X25519, base64.
            name: what to call it here.
            allowed_ips: prefixes that it may use as its source.
            endpoint: where it listens; without it, it has to call.
            preshared_key: 32 bytes, base64.
            keepalive_s: how often to send something at least.
            take: take prefixes from peers that have them, as `wg` does; else that is refused.

        Raises:
            UsageError: a key, a prefix or the endpoint is wrong, or belongs to another peer.
            ConfigError: it could not be saved.
        """
        change = Change(
            name=name,
            allowed_ips=allowed_ips,
            endpoints=[endpoint] if endpoint is not None else [],
            preshared_key=preshared_key,
            keepalive_s=keepalive_s,
        )
        key = decode_key(public_key) if public_key.endswith("=") else b""
        if not key:
            raise UsageError("the public key is none: expected 44 characters of base64, as `wg pubkey` prints them")
        record = settled(new_record(key, None, is_weft=False), change)
        (added,) = await self.apply(lambda _: [Step(key, record, change)], take=take)
        return added

    async def set(self, peer: str, change: Change, *, take: bool = False) -> PeerStatus:
        """Change what is settled about a peer, all of it or nothing.

        The session goes on where WireGuard's would; another preshared key begins the next one, another public key ends
        it.

        Args:
            peer: which.
            change: what is to be different.
            take: take prefixes from peers that have them, as `wg` does; else that is refused.

        Raises:
            UsageError: there is none of that name, it is blocked, or something can't be set.
            ConfigError: it could not be saved.
        """
        (changed,) = await self.apply(partial(_plan, name=peer, change=change), take=take)
        return changed

    async def apply(
        self, plan: Callable[[Contacts], builtins.list[Step]], *, take: bool = False
    ) -> builtins.list[PeerStatus]:
        """Change several peers, all of them or none.

        Args:
            plan: says what to do, from how it is at that moment.
            take: as for `set`.

        Returns:
            Those of the plan that are peers afterwards.

        Raises:
            UsageError: something can't be so.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            contacts = self._life.running.contacts
            steps = plan(contacts)
            before = {step.key: contacts.record(step.key) for step in steps}
            await self._changes.settle(steps, take=take)
            found = [
                (peer, step) for step in steps if (peer := self._life.running.contacts.by_key(step.key)) is not None
            ]
        for peer, step in found:
            await self._changes.follow(peer, step.change)
        for key, record, *_ in steps:
            old = before[key]
            if record is not None:
                kind: EventKind = "peer-added" if old is None else "peer-changed"
                self._publish(kind, record, "was added" if old is None else "was changed")
            elif old is not None and old.standing != "stranger":
                self._publish("peer-removed", old, "was removed")
        now = monotonic_ns()
        return [describe(peer, now) for peer, _ in found]

    async def remove(self, peer: str) -> None:
        """Forget a peer, blocked or not.

        Raises:
            UsageError: there is none of that name.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            contacts = self._life.running.contacts
            key = contacts.key_of(peer)
            displaced = contacts.put(key, None)
            await self._changes.commit(displaced)
        for _, record in displaced:
            if record is not None and record.standing != "stranger":
                self._publish("peer-removed", record, "was removed")

    # Whom it has nothing to do with.

    async def block(self, peer: str) -> PeerStatus:
        """Never answer and never call a peer again; what is known of it is kept.

        Args:
            peer: one that there is; or the peer id or WireGuard key of somebody who was not met yet.

        Raises:
            UsageError: nobody is called so, or too many are blocked.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            contacts = self._life.running.contacts
            key = decode_key(peer) or contacts.key_of(peer)
            peer_id = PeerId.from_text(peer) if key and not peer.endswith("=") and decode_key(peer) else None
            record = contacts.record(key) or new_record(key, peer_id, is_weft=is_usable_address(address_of(key)))
            record = replace(record, standing="blocked")
            await self._changes.commit(contacts.put(key, record))
        self._publish("peer-changed", record, "is blocked")
        return describe_blocked(key, record)

    async def unblock(self, peer: str) -> PeerStatus:
        """Let a peer that was blocked call again.

        Raises:
            UsageError: nobody is called so, is not blocked, or has prefixes that are another peer's now.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            contacts = self._life.running.contacts
            key = contacts.key_of(peer)
            if key not in contacts.blocked:
                raise UsageError(f"{peer} is not blocked")
            record = replace(contacts.blocked[key], standing="known")
            await self._changes.commit(contacts.put(key, record))
            found = self._life.running.contacts.by_key(key)
            assert found is not None
        self._publish("peer-changed", record, "is not blocked any more")
        return describe(found, monotonic_ns())

    def _publish(self, kind: EventKind, record: StoredPeer, what: str) -> None:
        self._life.events.publish(kind, f"{title_of(record)} {what}", peer=record.key)


def _decode_target(contacts: Contacts, target: str) -> tuple[bytes, PeerId | None, Multiaddr | None]:
    """Whom and where to call: a multiaddr, or a peer at its known endpoints."""
    if target.startswith("/"):
        address, peer_id = dial.decode_target(target)
        return peer_id.noise_public_key, peer_id, address
    peer = contacts.find(target)
    if not peer.endpoints.known:
        raise UsageError(f"no endpoint of {target} is known; give one with `weft peer set {target} --endpoint`")
    return peer.tunnel.peer_public, None, None


def _decode_peer(text: str) -> tuple[Multiaddr | None, PeerId]:
    """Where a weft node is, if that is said, and who."""
    if text.startswith("/"):
        return dial.decode_target(text)
    try:
        return None, PeerId.from_text(text)
    except DecodeError as error:
        raise UsageError(f"{text}: {error}") from error


def _try(contacts: Contacts, key: bytes, peer_id: PeerId | None, name: str | None) -> Trial:
    """Want a peer for as long as somebody waits for it; one that is new has its name at once."""
    contacts.refuse_blocked(key)
    if name is not None:
        contacts.check_name(key, checked_name(name))
    before = contacts.record(key)
    record = before or replace(new_record(key, peer_id, is_weft=True), name=name)
    if peer_id is not None and record.kind != "weft":
        raise UsageError("that key belongs to a WireGuard device; remove it first")
    record = replace(record, key=str(peer_id) if peer_id is not None else record.key, standing="wanted")
    contacts.put(key, record)
    trial = contacts.trials.setdefault(key, Trial(before))
    trial.callers += 1
    return trial


def _plan(contacts: Contacts, name: str, change: Change) -> builtins.list[Step]:
    """What a change of one peer comes to; with another key it is another peer."""
    found = contacts.find(name)
    old, record = found.tunnel.peer_public, settled(record_of(found), change)
    key = record.noise_public_key
    if key == old:
        return [Step(key, record, change)]
    if contacts.record(key) is not None:
        raise UsageError("another peer has that public key")
    return [Step(old, None, heir=key), Step(key, record, change)]
