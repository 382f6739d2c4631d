"""From what a person writes to an endpoint that can be dialled, and to the peer that answers there.

A peer that is not up is called at its known endpoints in turn. One that then does not answer is looked for in the
rhythm in which its tunnel repeats itself: each time nobody has answered, the next message goes to the next endpoint.
Names are resolved whenever it is their turn, whether they were given as `host:port` or as `/dns/host/udp/port`, and all
their addresses are tried. A peer with a session that gives no sign of life when asked is called as if it had none.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext, suppress
from functools import partial
from ipaddress import IPv6Address
from typing import Any

from weft.engine.peer import Endpoint, Peer
from weft.engine.presence import id_of
from weft.engine.session import Session
from weft.errors import DecodeError, PeerError, UsageError, WeftError
from weft.identity import PeerId
from weft.io.netlink import OVERLAY
from weft.multiaddr import Multiaddr, decode_multiaddr

log = logging.getLogger("weft.engine")

Work = Callable[[Session, Peer], Coroutine[Any, Any, None]]

STEP_S = 0.5
"""How long a peer that is called at its known endpoints in turn may take to answer at each."""
RESOLVE_DELAYS_S = (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300)
"""When a name that has no address is looked up again. After that it is looked up when something is to be sent."""
SIGN_S = 0.5
"""How long a peer that was asked for a sign of life may take to give one, or four round trips if that is longer."""
ROUNDS = 3
"""How often a peer is called at all its endpoints when the way there is another: of a link that has just come up, the
first packets may be lost, and the tunnel would repeat itself after five seconds only."""
ADDRESSES = 8
"""Of one name that are tried."""
CALLS_IN_A_TURN = 32
"""Begun in one turn of the loop: each takes the time of a handshake, and others want their turn."""
_UDP_ONLY = "can't be dialled; this version dials UDP only"
LOOKUPS = 2
"""Names that are looked up at once: each may keep a thread waiting, and saving the state needs one too."""


def decode_target(text: str) -> tuple[Multiaddr, PeerId]:
    """Decode a multiaddr that names a weft node.

    Args:
        text: such as `/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…`.

    Returns:
        Where the node is, and who.

    Raises:
        UsageError: it is none, has no /p2p, or a transport other than UDP.
    """
    try:
        address = decode_multiaddr(text)
    except DecodeError as error:
        if "/tcp/" in text:
            # What would be wrong with it if it could be dialled helps nobody.
            raise UsageError(f"{text}: {_UDP_ONLY}") from error
        raise UsageError(f"{text}: {error}") from error
    if address.peer_id is None:
        raise UsageError(f"{text}: has no /p2p/ID at its end; `weft info` on the other machine shows the whole of it")
    if address.transport != "udp":
        raise UsageError(f"{text}: {_UDP_ONLY}")
    if address.port == 0:
        raise UsageError(f"{text}: nobody listens on port 0")
    return address.with_peer_id(None), address.peer_id


def check_underlay(address: Multiaddr) -> None:
    """Refuse an endpoint inside the overlay: a tunnel to it would carry itself.

    Raises:
        UsageError: the address is in fc00::/8.
    """
    host, _ = address.endpoint()
    if ":" in host and IPv6Address(host.partition("%")[0]) in OVERLAY:
        raise UsageError(f"{host} is an address of the overlay itself; give the one that the machine has outside")


def decode_endpoint(text: str) -> Multiaddr:
    """Decode an endpoint as `wg` writes it, or as a multiaddr.

    Args:
        text: `192.0.2.1:51820`, `[2001:db8::1]:51820`, `host.example.org:51820`, `/dns/host.example.org/udp/51820`.

    Raises:
        UsageError: it is neither.
    """
    try:
        address = decode_multiaddr(text) if text.startswith("/") else _decode_host_and_port(text)
        if address.transport != "udp" or address.peer_id is not None:
            raise DecodeError("UDP, which is all that WireGuard speaks, and no /p2p at the end")
        if not address.port:
            raise DecodeError("a port from 1 to 65535")
    except DecodeError as error:
        raise UsageError(f"{text}: expected {error.expected}") from error
    return address


def _decode_host_and_port(text: str) -> Multiaddr:
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not is_bracketed:
        raise DecodeError("an IPv6 address in brackets, such as [2001:db8::1]:51820")
    if not host or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 0xFFFF:
        raise DecodeError("a host and a port, such as 192.0.2.1:51820 or host.example.org:51820")
    try:
        # What ends in digits was meant as an IPv4 address: no name does (RFC 1123, section 2.1).
        if is_bracketed or host.rpartition(".")[2].isdigit():
            return Multiaddr.from_endpoint(host[1:-1] if is_bracketed else host, int(port))
        return decode_multiaddr(f"/dns/{host}/udp/{int(port)}")
    except DecodeError:
        raise DecodeError(
            f"an address, or a name such as host.example.org (in another script in its xn-- form), not {host!r}"
        ) from None


def is_name(address: Multiaddr) -> bool:
    """Whether an address must be resolved before it can be dialled."""
    return address.components[0].protocol == "dns"


async def resolve(address: Multiaddr, families: list[bool]) -> list[Multiaddr]:
    """Replace a name by the addresses that a listener can reach, in the order that the system's resolver prefers.

    Args:
        address: with /ip4, /ip6 or /dns.
        families: whether each listener is IPv6.

    Returns:
        One at least, and at most `ADDRESSES`; the address itself if it has no name.

    Raises:
        PeerError: the name has no address, in one line.
    """
    if not is_name(address):
        return [address]
    host, port = address.host, address.port
    assert host is not None
    assert port is not None
    try:
        found = await _addresses_of(host, port)
    except OSError as error:
        raise PeerError(f"can't resolve {host}: {error.strerror}") from error
    numbers = dict.fromkeys(number for is_ipv6, number in found if is_ipv6 in families)
    if not numbers:
        raise PeerError(f"{host} has no address that a listener of this node can reach")
    return [Multiaddr.from_endpoint(number, port) for number in numbers][:ADDRESSES]


async def _addresses_of(host: str, port: int) -> list[tuple[bool, str]]:
    """What the system's resolver says of a name: (whether it is IPv6, address).

    In a thread that the process does not wait for when it ends: a resolver that nobody answers takes half a minute.

    Raises:
        OSError: the name has no address.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[tuple[bool, str]]] = loop.create_future()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            tell(answer.set_result, [(family == socket.AF_INET6, str(at[0])) for family, *_, at in found])
        except OSError as error:
            tell(answer.set_exception, error)

    def tell(conclude: Callable[[Any], None], value: object) -> None:
        # The loop may be closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if answer.done() else conclude(value))

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    return await answer


class Dialler:
    """Calls the peers of a session that are not up, wherever they may be.

    Args:
        find: gives the endpoints behind an address, which is resolved first if it has a name; raises a `WeftError`
            while there is none.
        clock: monotonic ns.
        has_route: whether anything can leave for an endpoint; where not, nobody waits for an answer from there.
    """

    def __init__(
        self,
        find: Callable[[Multiaddr], Awaitable[list[Endpoint]]],
        clock: Callable[[], int],
        has_route: Callable[[Endpoint], bool] = lambda endpoint: True,
    ) -> None:
        self._find = find
        self._clock = clock
        self._has_route = has_route
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._asked: dict[Work, set[Peer]] = {}
        self._running: dict[tuple[Work, Peer], asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def call(self, peer: Peer) -> None:
        """Call a peer at its known endpoints in turn, newest first, until it is up."""
        self._ask(self._call_in_turn, peer)

    def call_again(self, peer: Peer) -> None:
        """Call a peer anew, for the way there is another than when it was called, or a name may lead elsewhere."""
        for work in (self._call_in_turn, self._call_in_rounds):
            running = self._running.pop((work, peer), None)
            if running is not None:
                running.cancel()
        self._ask(self._call_in_rounds, peer)

    def doubt(self, peer: Peer) -> None:
        """A peer with a session was asked for a sign of life: call it as if there was none, unless it gives one."""
        self._ask(self._wait_for_sign, peer)

    def handle_unanswered(self, peer: Peer) -> None:
        """A peer did not answer a handshake: unless something else came from it, look for it elsewhere."""
        if peer.is_wanted and peer.endpoints.is_silent(peer.path.rx_bytes):
            self._ask(self._look_elsewhere, peer)

    def _ask(self, work: Work, peer: Peer) -> None:
        self._asked.setdefault(work, set()).add(peer)
        self._wake.set()

    async def run(self, session: Session) -> None:
        """Call everybody but those who are to call, and then whoever is to be called, until cancelled."""
        for peer in session.contacts:
            self.call(peer)
        # Of a session that is no more.
        self._running.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                asked, self._asked = self._asked, {}
                for number, key in enumerate((work, peer) for work in asked for peer in asked[work]):
                    if number % CALLS_IN_A_TURN == CALLS_IN_A_TURN - 1:
                        await asyncio.sleep(0)
                    if key not in self._running:
                        task = self._running[key] = group.create_task(key[0](session, key[1]))
                        task.add_done_callback(partial(self._forget, key))

    def _forget(self, key: tuple[Work, Peer], task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]

    async def _call_in_rounds(self, session: Session, peer: Peer, heard_bytes: int | None = None) -> None:
        for _ in range(1, ROUNDS):
            for address in self._addresses(peer):
                await self._has_called(session, peer, address, heard_bytes, is_first=False)
        await self._call_in_turn(session, peer, heard_bytes)

    async def _call_in_turn(self, session: Session, peer: Peer, heard_bytes: int | None = None) -> None:
        """Call a peer at all endpoints, and later where there was no address yet.

        Args:
            session: of which it is one.
            peer: whom.
            heard_bytes: what had come from it when it was last asked; if nothing more has, it is missed even if it is
                up. Its session's data goes along then.
        """
        addresses = self._addresses(peer)
        for delay_s in (0, *RESOLVE_DELAYS_S):
            await asyncio.sleep(delay_s)
            addresses = [
                each for each in addresses if not await self._has_called(session, peer, each, heard_bytes, delay_s == 0)
            ]
            if not addresses:
                return

    def _addresses(self, peer: Peer) -> list[Multiaddr]:
        is_up = peer.tunnel.is_up(self._clock())
        return [each for each in peer.endpoints.known if peer.endpoints.may_try(each, is_up=is_up)]

    async def _has_called(
        self, session: Session, peer: Peer, address: Multiaddr, heard_bytes: int | None, is_first: bool
    ) -> bool:
        """Call a peer at an address, unless it is up or gone; False if that is a name that has none yet."""
        if not self._is_missed(session, peer, heard_bytes):
            return True
        try:
            endpoints = await self._look_up(peer, address)
        except WeftError as error:
            level, about = logging.WARNING if is_first else logging.DEBUG, {"peer": id_of(peer)}
            log.log(level, "a peer is not called at %s: %s", address, error, extra=about)
            return not is_name(address)
        for endpoint in endpoints:
            if self._is_missed(session, peer, heard_bytes):
                up = session.wait_until_up(peer)
                session.call(peer, endpoint, afresh=True)
                await asyncio.wait({up}, timeout=STEP_S if self._has_route(endpoint) else 0)
                up.cancel()
        return True

    async def _wait_for_sign(self, session: Session, peer: Peer) -> None:
        heard_bytes = peer.path.rx_bytes
        await asyncio.sleep(max(SIGN_S, 4 * (peer.path.rtt_ns or 0) / 1e9))
        await self._call_in_rounds(session, peer, heard_bytes)

    async def _look_elsewhere(self, session: Session, peer: Peer) -> None:
        address = peer.endpoints.next_to_try(is_up=peer.tunnel.is_up(self._clock()))
        if address is None:
            return
        try:
            endpoints = await self._look_up(peer, address)
        except WeftError as error:
            log.debug("a peer is not looked for at %s: %s", address, error, extra={"peer": id_of(peer)})
            return
        if peer.tunnel.is_handshaking and peer.tunnel in session.contacts.by_tunnel:
            session.aim(peer, peer.endpoints.take_turn(address, endpoints))

    async def _look_up(self, peer: Peer, address: Multiaddr) -> list[Endpoint]:
        async with self._lookups if is_name(address) else nullcontext():
            endpoints = await self._find(address)
        peer.endpoints.lead(address, *(endpoint.multiaddr for endpoint in endpoints))
        return endpoints

    def _is_missed(self, session: Session, peer: Peer, heard_bytes: int | None) -> bool:
        """Whether a peer is still one that is called, and is not up or has not been heard."""
        is_called = peer.tunnel in session.contacts.by_tunnel and peer.standing != "known"
        return is_called and (not peer.tunnel.is_up(self._clock()) or peer.path.rx_bytes == heard_bytes)
