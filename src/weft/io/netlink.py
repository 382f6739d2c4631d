"""Interfaces, addresses and routes of a Linux machine, through rtnetlink.

What makes the fc00::/8 interface usable once its TUN exists, and what routes of stock WireGuard peers need. pyroute2
speaks the protocol; it comes with the extra `linux`, is imported when first needed, and is known to this file alone.

Source: Linux, rtnetlink(7), if_link.h, rtnetlink.h; cjdns uses the same prefix, so an owner of it is refused.
Not done here: making the TUN (tun.py), being told of changes (changes.py), asking for a route (routes.py).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from weft.errors import TransportError, UsageError
from weft.io.loop_thread import LoopThread
from weft.io.routes import route_to

log = logging.getLogger("weft.io")

T = TypeVar("T")
Prefix = IPv4Network | IPv6Network
InterfaceAddress = IPv4Interface | IPv6Interface
"""An address with the length of its prefix."""

OVERLAY: Final = IPv6Network("fc00::/8")
GSO_MAX_BYTES: Final = 64_000
"""So that a super-packet from the TUN fits one burst."""
TX_QUEUE_PACKETS: Final = 1_000
"""What waits for this process on the TUN: as on an Ethernet interface. The kernel gives a TUN 500."""

_ADDR_GEN_MODE_NONE = 1
_LOCAL_TABLE = 255
_UNICAST = 1
_GONE = frozenset({errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT})


class Netlink:
    """A connection to the kernel's routing tables; an asynchronous context manager.

    What it added and nobody removed goes when it is closed.

    Raises:
        UsageError: on entering, pyroute2 is not installed, or this is not Linux.
    """

    def __init__(self) -> None:
        self._iproute: Any = None
        self._elsewhere: LoopThread | None = None
        self._added: list[tuple[str, dict[str, Any]]] = []

    async def __aenter__(self) -> Self:
        package = _pyroute2()
        if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            self._elsewhere = LoopThread()
        try:
            self._iproute = await self._run(_entered(package))
        except BaseException:
            self._close_loop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._added:
                await self._remove(*self._added[-1])
        finally:
            await self._run(self._iproute.__aexit__(kind, error, traceback))
            self._close_loop()

    async def configure_interface(
        self,
        ifname: str,
        address: bytes | IPv6Address,
        mtu: int,
        gso_max_size: int = GSO_MAX_BYTES,
    ) -> None:
        """Set an existing TUN up as an interface of the overlay.

        It gets the address with prefix length 128 and no link-local address; what it has of that stays.

        Args:
            ifname: name of the interface.
            address: this node's own, 16 bytes or as a value.
            mtu: of the interface, bytes.
            gso_max_size: largest super-packet that the kernel makes for it, of both IP versions; at most 65,536 bytes.

        Raises:
            UsageError: no such interface, no permission, or no IPv6.
            TransportError: the kernel refused for another reason.
        """
        index = _index(ifname)
        # Without a link-local address the kernel sends no router solicitations into the tunnel.
        no_link_local = {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE]]}]]}
        async with _explained(f"can't set up {ifname}"):
            await self._ask("link", "set", index=index, mtu=mtu, txqlen=TX_QUEUE_PACKETS)
            # Up to 65,536 the kernel takes it for IPv4 too; beyond, IPv4 has an attribute of its own.
            await self._ask("link", "set", index=index, IFLA_GSO_MAX_SIZE=gso_max_size)
            await self._ask("link", "set", index=index, IFLA_AF_SPEC=no_link_local)
            await self._ask("link", "set", index=index, state="up")
        _switch_ipv6_on(ifname)
        await self._add("addr", "replace", {"address": str(IPv6Address(address)), "prefixlen": 128, "index": index})

    async def add_overlay_route(self, ifname: str) -> None:
        """Send packets for all of fc00::/8 to an interface; one that it has already stays.

        Args:
            ifname: name of an interface that is up.

        Raises:
            UsageError: another interface has that route, which says what to do; or as `add_route`.
            TransportError: the kernel refused for another reason.
        """
        owner = await self.owner_of(OVERLAY)
        if owner is None:
            await self.add_route(OVERLAY, ifname)
        elif owner != ifname and await self._is_of_node(owner):
            raise UsageError(
                f"{owner}, of another node, has the route {OVERLAY} already; let this node route its own peers alone: "
                "weft --dir DIR config set fc00.routes peers"
            )
        elif owner != ifname:
            raise UsageError(
                f"{owner} has the route {OVERLAY} already (cjdns uses the same addresses); stop what owns {owner} first"
            )

    async def add_route(self, prefix: Prefix | str, ifname: str) -> None:
        """Send packets for a prefix to an interface.

        Args:
            prefix: as a value, or as text such as `192.0.2.0/24`.
            ifname: name of an interface that is up.

        Raises:
            UsageError: the prefix has a route already, no such interface, or no permission.
            TransportError: the kernel refused for another reason.
        """
        await self._add("route", "add", {"dst": str(ip_network(prefix)), "oif": _index(ifname)})

    async def remove_route(self, prefix: Prefix | str, ifname: str) -> None:
        """Take back what `add_route` did; a route that is gone already is fine.

        Raises:
            UsageError: no permission.
        """
        with suppress(_NoSuchInterface):
            await self._remove("route", {"dst": str(ip_network(prefix)), "oif": _index(ifname)})

    async def add_address(self, address: InterfaceAddress, ifname: str) -> None:
        """Give an interface one more address; the kernel makes the route of its prefix.

        Args:
            address: with the length of its prefix.
            ifname: name of an interface that is up.

        Raises:
            UsageError: another interface has that route, no such interface, or no permission.
            TransportError: the kernel refused for another reason.
        """
        owner = await self.owner_of(address.network)
        if owner not in {None, ifname}:
            raise UsageError(f"can't add {address}: {owner} has the route {address.network} already")
        await self._add("addr", "replace", _address_spec(address, _index(ifname)))

    async def remove_address(self, address: InterfaceAddress, ifname: str) -> None:
        """Take back what `add_address` did; an address that is gone already is fine.

        Raises:
            UsageError: no permission.
        """
        with suppress(_NoSuchInterface):
            await self._remove("addr", _address_spec(address, _index(ifname)))

    async def owner_of(self, prefix: Prefix | str) -> str | None:
        """Return the interface that has the route of exactly this prefix, or None."""
        prefix = ip_network(prefix)
        everywhere = str(type(prefix.network_address)(0))
        family = socket.AF_INET if prefix.version == 4 else socket.AF_INET6
        for route in await self._ask("route", "dump", family=family):
            is_same = f"{route.get('dst') or everywhere}/{route.get('dst_len')}" == str(prefix)
            is_usual = route.get("type") == _UNICAST and route.get("table") != _LOCAL_TABLE
            if is_same and is_usual and route.get("oif"):
                return await self._ifname(route.get("oif"))
        return None

    def leave(self) -> None:
        """Let what was added stay when this is closed: from now on it belongs to whoever has the interface."""
        self._added.clear()

    async def _add(self, what: str, command: str, spec: dict[str, Any]) -> None:
        name = spec.get("dst") or spec["address"]
        async with _explained(f"can't add {name}"):
            try:
                await self._ask(what, command, **spec)
            except FileExistsError:
                raise UsageError(f"{name} has a route already, to {await self._taker_of(ip_network(name))}") from None
        self._added.append((what, spec))

    async def _taker_of(self, prefix: Prefix) -> str | None:
        """The interface that has the route of a prefix that somebody has."""
        if prefix.prefixlen < prefix.max_prefixlen:
            return await self.owner_of(prefix)
        # Not by looking at all routes, of which single addresses may have many.
        route = route_to(str(prefix.network_address))
        return socket.if_indextoname(route.ifindex) if route is not None else None

    async def _remove(self, what: str, spec: dict[str, Any]) -> None:
        with suppress(ValueError):
            self._added.remove((what, spec))
        async with _explained(f"can't remove {spec.get('dst') or spec['address']}"):
            try:
                await self._ask(what, "del", **spec)
            except OSError as error:
                if error.errno not in _GONE:
                    raise

    async def _is_of_node(self, ifname: str) -> bool:
        """Whether an interface has a node's address: other users of fc00::/8 have theirs with the whole prefix."""
        addresses = await self._ask("addr", "dump", family=socket.AF_INET6, index=_index(ifname))
        return any(each.get("prefixlen") == 128 and ip_address(each.get("address")) in OVERLAY for each in addresses)

    async def _ifname(self, index: int) -> str:
        (link,) = await self._ask("link", "get", index=index)
        return str(link.get("ifname"))

    async def _ask(self, table: str, command: str, **spec: Any) -> list[Any]:
        async def ask() -> list[Any]:
            answer = await getattr(self._iproute, table)(command, **spec)
            return [item async for item in answer] if command == "dump" else list(answer)

        # pyroute2's own error is no OSError.
        try:
            return await self._run(ask())
        except _pyroute2().NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from None

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop that pyroute2 runs on."""
        return await (work if self._elsewhere is None else self._elsewhere.run(work))

    def _close_loop(self) -> None:
        if self._elsewhere is not None:
            self._elsewhere.close()


async def _entered(package: Any) -> Any:
    # Made there too, for it takes the loop that runs.
    return await package.AsyncIPRoute().__aenter__()


def _index(ifname: str) -> int:
    try:
        return socket.if_nametoindex(ifname)
    except OSError:
        raise _NoSuchInterface(f"there is no interface {ifname}") from None


def _address_spec(address: InterfaceAddress, index: int) -> dict[str, Any]:
    return {"address": str(address.ip), "prefixlen": address.network.prefixlen, "index": index}


def _switch_ipv6_on(ifname: str) -> None:
    """Let an interface have IPv6 on a machine that has it switched off for all; the kernel would only say EACCES."""
    switch = Path("/proc/sys/net/ipv6/conf", ifname, "disable_ipv6")
    try:
        if switch.read_text().strip() != "0":
            switch.write_text("0")
    except FileNotFoundError:
        raise UsageError("this system has no IPv6, which the network needs") from None
    except OSError as error:
        raise UsageError(
            f"IPv6 is switched off on this machine, and can't be switched on for {ifname}: {error.strerror}; "
            f"see the sysctl net.ipv6.conf.{ifname}.disable_ipv6"
        ) from error


class _NoSuchInterface(UsageError):  # noqa: N818 - for this file: a caller sees a UsageError
    pass


@asynccontextmanager
async def _explained(what: str) -> AsyncIterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, PermissionError):
            raise UsageError(f"{what}: needs root or CAP_NET_ADMIN") from error
        raise TransportError(f"{what}: {error.strerror}") from error


def _pyroute2() -> Any:
    if sys.platform != "linux":
        raise UsageError("interfaces and routes can be changed on Linux only")
    try:
        import pyroute2
    except ImportError as error:
        raise UsageError("interfaces and routes need pyroute2: pip install 'weft[linux]'") from error
    return pyroute2
