"""Where the node listens, and what carries its tunnels: two views of `[peer] listen` and `[transport]`.

Each change is one of weft.toml, so that it is there after a new start too.
"""

from __future__ import annotations

import builtins
from typing import Any

from weft.engine.config import Config
from weft.engine.keys import BY_NAME
from weft.engine.lifetime import Lifetime
from weft.engine.listeners import ListenerList, TransportList, TransportStatus
from weft.engine.verbs.settings import Settings
from weft.errors import DecodeError, UsageError
from weft.multiaddr import Multiaddr, decode_multiaddr

TRANSPORTS = {"ip4": "UDP over IPv4", "ip6": "UDP over IPv6"}


class Listeners:
    """The listeners of a node."""

    def __init__(self, life: Lifetime, settings: Settings) -> None:
        self._life = life
        self._settings = settings

    def list(self) -> ListenerList:
        """All that are configured, and what became of each."""
        config = self._life.config
        return self._life.underlay.describe(config.peer.listen_multiaddrs, config.listeners)

    async def start(self, multiaddr: str) -> ListenerList:
        """Listen on one more address, from now on and after a new start.

        Raises:
            UsageError: it is no address to listen on, or its transport is switched off.
            TransportError: it is in use, or not of this machine; nothing has changed.
        """
        address = _decode(multiaddr)

        def plan(config: Config) -> dict[str, Any]:
            if not config.has_transport(address):
                name = "ip6" if ":" in address.endpoint()[0] else "ip4"
                raise UsageError(f"{multiaddr}: its transport is off; `weft transport enable {name}` first")
            more = [] if address in config.peer.listen_multiaddrs else [str(address)]
            return {"peer.listen": [*config.peer.listen, *more]}

        if address not in self._life.config.peer.listen_multiaddrs or not self._life.underlay.is_open(address):
            await self._settings.change(plan, must_open=address)
        return self.list()

    async def stop(self, multiaddr: str) -> ListenerList:
        """Listen on an address no longer; peers that were reached by it are reached by another listener.

        Args:
            multiaddr: as it is configured, or the real address and port.

        Raises:
            UsageError: it is not listened on, or it is the last one.
        """
        address = _decode(multiaddr)
        listed = self.list().listeners
        found = [each for each in listed if str(address) in {str(decode_multiaddr(each.multiaddr)), each.bound}]
        if not found:
            there = ", ".join(each.multiaddr for each in listed)
            raise UsageError(f"{multiaddr} is not listened on; there are: {there}")
        leaving = decode_multiaddr(found[0].multiaddr)

        def plan(config: Config) -> dict[str, Any]:
            left = [text for text in config.peer.listen if decode_multiaddr(text) != leaving]
            if not left:
                raise UsageError("that is the last listener, and a node needs one; start another one first")
            return {"peer.listen": left}

        await self._settings.change(plan)
        return self.list()


class Transports:
    """The transports of a node."""

    def __init__(self, life: Lifetime, settings: Settings) -> None:
        self._life = life
        self._settings = settings

    def list(self) -> TransportList:
        """All that this version has."""
        config, listed = self._life.config, _bound(self._life)
        return TransportList(
            transports=[
                TransportStatus(
                    name=name,
                    about=about,
                    enabled=config.value(f"transport.{name}"),
                    listeners=listed.get(name, []),
                )
                for name, about in TRANSPORTS.items()
            ]
        )

    async def enable(self, name: str) -> TransportList:
        """Open the listeners of a transport, from now on and after a new start.

        Raises:
            UsageError: there is none of that name.
            TransportError: a listener could not be opened; nothing has changed.
        """
        return await self._switch(name, is_on=True)

    async def disable(self, name: str) -> TransportList:
        """Close the listeners of a transport; peers that have another endpoint are called there.

        Raises:
            UsageError: there is none of that name, or no listener would be left.
        """
        return await self._switch(name, is_on=False)

    async def _switch(self, name: str, *, is_on: bool) -> TransportList:
        if name not in TRANSPORTS:
            raise UsageError(f"there is no transport {name!r} in this version; there are: {_names()}")
        await self._settings.change(lambda config: {f"transport.{name}": is_on})
        return self.list()


def _bound(life: Lifetime) -> dict[str, builtins.list[str]]:
    config, found = life.config, dict[str, builtins.list[str]]()
    for listener in life.underlay.describe(config.peer.listen_multiaddrs, config.listeners).listeners:
        if listener.bound is not None:
            found.setdefault(listener.transport, []).append(listener.bound)
    return found


def _decode(text: str) -> Multiaddr:
    try:
        address = decode_multiaddr(text)
    except DecodeError as error:
        if "/tcp/" in text:
            # What would be wrong with it if there was such a listener helps nobody.
            raise _unknown(text) from error
        raise UsageError(f"{text}: {error}") from error
    if address.transport != "udp":
        raise _unknown(text)
    fault = BY_NAME["peer.listen"].check((text,))
    if fault is not None:
        raise UsageError(fault)
    return address


def _unknown(text: str) -> UsageError:
    return UsageError(f"{text}: this version listens on {_names()}, such as /ip4/0.0.0.0/udp/1312")


def _names() -> str:
    return " and ".join(f"{name} ({about})" for name, about in TRANSPORTS.items())
