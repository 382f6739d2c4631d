"""The interface of fc00::/8 and the firewall in front of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from weft.engine.contacts import decode_key
from weft.engine.environment import allowed_offloads
from weft.engine.lifetime import Lifetime
from weft.engine.record import title_of
from weft.engine.status import DeviceKind, Interface, Ports
from weft.errors import ConfigError, DecodeError, UsageError
from weft.firewall.rules import Rule, decode_rule, encode_rule
from weft.identity import encode_wireguard_key
from weft.io.passing import take
from weft.io.tun import Tun

MAX_SHOWN: Final = 3
"""Rules that are named in one line of text."""


class Fc00:
    """The interface and the rules of a node."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life

    async def start(
        self,
        ifname: str | None = None,
        *,
        existing: bool = False,
        socket: str | None = None,
        device: DeviceKind | None = None,
    ) -> Interface:
        """Make the fc00::/8 interface, and return when packets can use it.

        Args:
            ifname: its name; None is that of the configuration.
            existing: use the persistent one of that name, which somebody else has made and set up, as it is.
            socket: use the one whose descriptor is passed there (io/passing.py), as it is.
            device: what it is; None is what the configuration says, but a TUN if one is named, or it leaves that open.

        Raises:
            PermissionError: a TUN needs root or CAP_NET_ADMIN.
            UsageError: it is up in another way, another interface owns fc00::/8, or the existing one is not fit.
        """
        life, name = self._life, ifname or self._life.config.fc00.ifname
        is_named = ifname is not None or existing or socket is not None
        if device == "stack" and is_named:
            raise UsageError("the stack is inside the node and is no interface with a name; give device alone")
        up = life.interface
        if up is not None and (
            socket is not None or ifname not in {None, up.device.name} or device not in {None, up.kind}
        ):
            raise UsageError(f"the interface is up already, as {up.device.name}; `weft fc00 stop` first")
        if device is None and not is_named and life.config.fc00.device == "stack":
            device = "stack"
        if device == "stack":
            await life.open_interface(None)
        elif socket is not None:
            if ifname is not None or existing:
                raise UsageError("an interface whose descriptor is passed has its name already; give socket alone")
            await life.open_interface(name, lambda: Tun.adopt(take(socket)))
        elif existing:
            offloads = "tun" in allowed_offloads()
            await life.open_interface(name, lambda: Tun.attach(name, offloads=offloads))
        else:
            await life.open_interface(name)
        return self.status()

    async def stop(self) -> None:
        """Remove the interface."""
        await self._life.close_interface()

    def status(self) -> Interface:
        """The interface as it is."""
        interface = self._life.interface
        status = interface.status() if interface is not None else Interface(up=False)
        return replace(status, dns=list(self._life.config.fc00.dns))

    async def allow(self, rules: list[str]) -> Ports:
        """Let these in from the overlay; returns when that is saved, or fails and has changed nothing.

        Args:
            rules: such as `/tcp/80`, or `/tcp/22/from/loom` for one peer; that may be any name of a peer, or the peer
                id or WireGuard key of one that is not there yet.

        Raises:
            UsageError: one of them is not a rule, or nobody is called so.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            decoded = self._decode(rules)
            before = self._life.firewall.rules()
            after = dict.fromkeys((*before, *decoded))
            await self._change(before, tuple(after), f"{_list_of(decoded)} allowed")
        return self.ports()

    async def deny(self, rules: list[str]) -> Ports:
        """Take rules back; returns when that is saved, or fails and has changed nothing.

        Args:
            rules: as they were given to `allow`.

        Raises:
            UsageError: one of them is not a rule that is allowed.
            ConfigError: it could not be saved.
        """
        async with self._life.memory.changing:
            decoded = dict.fromkeys(self._decode(rules))
            before = dict.fromkeys(self._life.firewall.rules())
            missing = [rule for rule in decoded if rule not in before]
            if missing:
                raise UsageError(f"{_list_of(missing)}: not allowed anyway; `weft fc00 ports` shows what is")
            after = tuple(rule for rule in before if rule not in decoded)
            await self._change(tuple(before), after, f"{_list_of(decoded)} taken back")
        return self.ports()

    def ports(self) -> Ports:
        """What the firewall lets in, and what the peers are called whose keys are in the rules."""
        rules = self._life.firewall.rules()
        return Ports(
            allow=[encode_rule(rule) for rule in rules],
            listening=self._listening(),
            peers=self._titles({rule.source for rule in rules if rule.source is not None}),
            refuse=self._life.config.fc00.refuse,
        )

    def _listening(self) -> list[str] | None:
        driver = self._life.interface.driver if self._life.interface is not None else None
        if driver is None:
            return None
        from weft.engine.host_ports import listening

        return listening(driver.host)

    def _titles(self, keys: Iterable[bytes]) -> dict[str, str]:
        session = self._life.session
        records = {key: session.contacts.record(key) for key in keys} if session is not None else {}
        return {encode_wireguard_key(key): title_of(record) for key, record in records.items() if record is not None}

    def _decode(self, texts: list[str]) -> list[Rule]:
        try:
            return [decode_rule(text, self._key_of) for text in texts]
        except DecodeError as error:
            raise UsageError(f"expected {error.expected}") from error

    def _key_of(self, peer: str) -> bytes:
        """The Noise key that stands in a rule for a peer; one that is a key already need not be anybody's yet."""
        return decode_key(peer) or self._life.running.contacts.key_of(peer)

    async def _change(self, before: tuple[Rule, ...], after: tuple[Rule, ...], text: str) -> None:
        """Let other rules hold, and save them; if that fails, all is as it was."""
        life = self._life
        life.firewall.set_rules(after)
        try:
            await life.save()
        except BaseException as error:
            life.firewall.set_rules(before)
            life.memory.handle_change()
            if isinstance(error, ConfigError):
                raise ConfigError(f"{error}; nothing was changed") from error
            raise
        life.events.publish("rules-changed", text)


def _list_of(rules: Iterable[Rule]) -> str:
    """Some rules, for a line of text."""
    first, *rest = map(encode_rule, rules)
    shown = ", ".join((first, *rest[: MAX_SHOWN - 1]))
    return shown if len(rest) < MAX_SHOWN else f"{shown} and {len(rest) + 1 - MAX_SHOWN} more"
