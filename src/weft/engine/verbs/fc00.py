"""The interface of fc00::/8 and the firewall in front of it."""

from __future__ import annotations

from weft.engine.lifetime import Lifetime
from weft.engine.status import Interface, Ports
from weft.errors import DecodeError, UsageError
from weft.firewall.rules import Rule, decode_rule, encode_rule


class Fc00:
    """The interface and the rules of a node."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life

    async def start(self, ifname: str | None = None) -> Interface:
        """Make the fc00::/8 interface, and return when packets can use it.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            UsageError: it is up under another name, or another interface owns fc00::/8.
        """
        interface = self._life.interface
        if interface is not None and ifname not in {None, interface.tun.name}:
            raise UsageError(f"the interface is up already, as {interface.tun.name}; `weft fc00 stop` first")
        return (await self._life.open_interface(ifname or self._life.config.fc00.ifname)).status()

    async def stop(self) -> None:
        """Remove the interface."""
        await self._life.close_interface()

    def status(self) -> Interface:
        """The interface as it is."""
        return self._life.interface.status() if self._life.interface is not None else Interface(up=False)

    async def allow(self, rules: list[str]) -> Ports:
        """Let these in from the overlay.

        Raises:
            UsageError: one of them is not a rule; none is added then.
        """
        for rule in _decode_rules(rules):
            self._life.firewall.allow(rule)
        await self._life.save()
        return self.ports()

    async def deny(self, rules: list[str]) -> Ports:
        """Take rules back.

        Raises:
            UsageError: one of them is not a rule that is allowed; none is taken back then.
        """
        decoded = _decode_rules(rules)
        missing = [encode_rule(rule) for rule in decoded if rule not in self._life.firewall.rules()]
        if missing:
            raise UsageError(f"{', '.join(missing)}: not allowed anyway; `weft fc00 ports` shows what is")
        for rule in decoded:
            self._life.firewall.deny(rule)
        await self._life.save()
        return self.ports()

    def ports(self) -> Ports:
        """What the firewall lets in."""
        return Ports(
            allow=[encode_rule(rule) for rule in self._life.firewall.rules()], refuse=self._life.config.fc00.refuse
        )


def _decode_rules(texts: list[str]) -> list[Rule]:
    try:
        return [decode_rule(text) for text in texts]
    except DecodeError as error:
        raise UsageError(str(error)) from error
