"""The interface of fc00::/8 and the firewall in front of it."""

from __future__ import annotations

from weft.engine.environment import allowed_offloads
from weft.engine.lifetime import Lifetime
from weft.engine.status import Interface, Ports
from weft.errors import DecodeError, UsageError
from weft.firewall.rules import Rule, decode_rule, encode_rule
from weft.io.passing import take
from weft.io.tun import Tun


class Fc00:
    """The interface and the rules of a node."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life

    async def start(self, ifname: str | None = None, *, existing: bool = False, socket: str | None = None) -> Interface:
        """Make the fc00::/8 interface, and return when packets can use it.

        Args:
            ifname: its name; None is that of the configuration.
            existing: use the persistent one of that name, which somebody else has made and set up, as it is.
            socket: use the one whose descriptor is passed there (io/passing.py), as it is.

        Raises:
            PermissionError: needs root or CAP_NET_ADMIN.
            UsageError: it is up in another way, another interface owns fc00::/8, or the existing one is not fit.
        """
        life, name = self._life, ifname or self._life.config.fc00.ifname
        if life.interface is not None and (socket is not None or ifname not in {None, life.interface.tun.name}):
            raise UsageError(f"the interface is up already, as {life.interface.tun.name}; `weft fc00 stop` first")
        if socket is not None:
            if ifname is not None or existing:
                raise UsageError("an interface whose descriptor is passed has its name already; give socket alone")
            interface = await life.open_interface(name, lambda: Tun.adopt(take(socket)))
        elif existing:
            offloads = "tun" in allowed_offloads()
            interface = await life.open_interface(name, lambda: Tun.attach(name, offloads=offloads))
        else:
            interface = await life.open_interface(name)
        return interface.status()

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
