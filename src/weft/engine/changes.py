"""How a change of peers is made: their records, the rules and routes that go with them, and what is on disk.

All of it or nothing: where saving fails, or a route can't be set, the records that were displaced are put back. Whoever
makes a change holds `Memory.changing`.

Not done here: what a change comes to (settle.py), and who asks for it (verbs/).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_network
from types import MappingProxyType

from msgspec import UNSET

from weft.engine import dial
from weft.engine.change import Change
from weft.engine.contacts import Contacts, Displaced
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Peer
from weft.engine.settle import Step
from weft.errors import ConfigError, UsageError, WeftError
from weft.firewall.rules import inherited
from weft.io.clock import monotonic_ns
from weft.multiaddr import decode_multiaddr

RESOLVE_S = 2.0
"""How long a new endpoint that is a name may take to be found, for a session to go there at once."""


class Changes:
    """Makes them for a node."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life

    async def settle(self, steps: list[Step], *, take: bool) -> None:
        """Put records in the place of others, once their endpoints and networks go together, and save it."""
        contacts = self._life.running.contacts
        for step in steps:
            if step.record is None:
                continue
            contacts.refuse_blocked(step.key)
            for address in map(decode_multiaddr, step.record.configured):
                if not dial.is_name(address):
                    await self._life.underlay.find(address)
        displaced: Displaced = []
        try:
            for step in steps:
                displaced = contacts.put(step.key, step.record, take=take) + displaced
            _check_networks(contacts, displaced, steps)
        except UsageError:
            self._put_back(displaced)
            raise
        await self.commit(displaced, {step.key: step.heir for step in steps})

    async def commit(self, displaced: Displaced, heirs: Mapping[bytes, bytes | None] = MappingProxyType({})) -> None:
        """Let the rules of peers that went go with them, set the routes and save; if that fails, all is as it was.

        Args:
            displaced: what is put back then.
            heirs: whose the rules of a peer become, if not nobody's.
        """
        firewall = self._life.firewall
        rules = firewall.rules()
        contacts = self._life.running.contacts
        gone = {key for key, before in displaced if before is not None and contacts.record(key) is None}
        left = inherited(rules, {key: heirs.get(key) for key in gone})
        tried = {key: contacts.trials.pop(key) for key, _ in displaced if key in contacts.trials}
        if left != rules:
            firewall.set_rules(left)
        try:
            await self._life.set_routes()
            await self._life.save()
        except BaseException as error:
            if left != rules:
                firewall.set_rules(rules)
            self._put_back(displaced)
            contacts.trials.update(tried)
            with suppress(WeftError):
                await self._life.set_routes()
            self._life.memory.handle_change()
            if isinstance(error, ConfigError):
                raise ConfigError(f"{error}; nothing was changed") from error
            raise
        if left != rules:
            self._life.events.publish("rules-changed", "rules for a peer went with it")

    def _put_back(self, displaced: Displaced) -> None:
        session = self._life.session
        if session is None:
            return
        for key, record in displaced:
            session.contacts.put(key, record)
            peer = session.contacts.by_key(key)
            if peer is not None and peer.is_wanted:
                self._life.dialler.call(peer)

    async def follow(self, peer: Peer, change: Change) -> None:
        """Do what a change means for the session of a peer, unless that has ended meanwhile."""
        session = self._life.session
        if session is None or peer.tunnel not in session.contacts.by_tunnel:
            return
        is_up = peer.tunnel.is_up(monotonic_ns())
        if is_up and change.endpoints is not UNSET and peer.endpoints.configured:
            with suppress(WeftError, TimeoutError):
                async with asyncio.timeout(RESOLVE_S):
                    address = peer.endpoints.configured[0]
                    endpoint = await self._life.underlay.find(address)
                    peer.endpoints.lead(address, endpoint.multiaddr)
                    if peer.tunnel in session.contacts.by_tunnel:
                        session.aim(peer, endpoint)
        if peer.tunnel not in session.contacts.by_tunnel:
            return
        if is_up and change.preshared_key is not UNSET:
            session.call(peer, None)
        if peer.is_wanted:
            self._life.dialler.call(peer)
        session.attend(peer)


def _check_networks(contacts: Contacts, displaced: Displaced, steps: list[Step]) -> None:
    """Refuse new networks with an endpoint of anybody in them."""
    before = {text for _, record in displaced if record is not None for text in record.allowed_ips}
    after = {text for step in steps if step.record is not None for text in step.record.allowed_ips}
    contacts.check_endpoints(map(ip_network, after - before))
