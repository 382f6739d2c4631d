"""Whom the node talks to: what is asked of it about its peers."""

from __future__ import annotations

import asyncio
import builtins
from ipaddress import IPv6Address, ip_network

from weft.burst.header import DATA_OVERHEAD_BYTES
from weft.engine import dial
from weft.engine.lifetime import Lifetime
from weft.engine.peer import Endpoint, Peer
from weft.engine.report import describe
from weft.engine.session import Session
from weft.engine.status import PeerList, PeerStatus, Pong
from weft.errors import DecodeError, PeerError, TransportError, UsageError
from weft.identity import decode_wireguard_key
from weft.io.clock import monotonic_ns
from weft.mesh.probe import MIN_PING_BYTES
from weft.noise.primitives import KEY_BYTES

PROBE_S = 2.0
"""How long a peer that is to be connected again may take to show that its session still stands."""
MAX_PING_BYTES = 65_507 - DATA_OVERHEAD_BYTES
"""What the largest datagram of UDP over IPv4 carries inside the tunnel."""


class Peers:
    """The peers of a node. A peer is named by id, name, address or public key."""

    def __init__(self, life: Lifetime) -> None:
        self._life = life

    def list(self) -> PeerList:
        """All peers; none while the session is built anew."""
        now = monotonic_ns()
        session = self._life.session
        return PeerList(peers=[describe(peer, now) for peer in session.contacts] if session is not None else [])

    async def connect(self, multiaddr: str, timeout_s: float = 10.0) -> PeerStatus:
        """Call a weft node and return when its tunnel is up.

        Raises:
            UsageError: the multiaddr is not one that can be dialled.
            TimeoutError: no answer; the message says what may be the reason.
            PeerError: it was removed meanwhile.
        """
        session = self._life.running
        address, peer_id = dial.decode_target(multiaddr)
        endpoint = await self._life.underlay.find(address)
        old = session.contacts.by_key(peer_id.noise_public_key)
        was_wanted = old is not None and old.is_wanted
        peer = session.contacts.add_weft(peer_id.noise_public_key, peer_id, is_wanted=True)
        if peer.path.endpoint != endpoint or not await self._answers(session, peer):
            try:
                await self._call(session, peer, endpoint, timeout_s)
            except (TimeoutError, PeerError):
                peer.is_wanted = was_wanted
                if old is None and peer.tunnel in session.contacts.by_tunnel:
                    session.remove(peer)
                raise
        peer.endpoints.lead(address, endpoint.multiaddr)
        peer.endpoints.configure(address)
        await self._life.save()
        return describe(peer, monotonic_ns())

    @staticmethod
    async def _answers(session: Session, peer: Peer) -> bool:
        """Whether the session with a peer is of use: the peer answers a probe."""
        if not (peer.is_known and peer.path.is_proven and peer.tunnel.is_up(monotonic_ns())):
            return False
        pong = session.proving.ping(peer, MIN_PING_BYTES)
        await asyncio.wait({pong}, timeout=PROBE_S)
        return pong.done() and not pong.cancelled()

    async def _call(self, session: Session, peer: Peer, endpoint: Endpoint, timeout_s: float) -> None:
        waiter = session.wait_until_up(peer)
        session.call(peer, endpoint)
        await asyncio.wait({waiter}, timeout=timeout_s)
        if waiter.cancelled():
            raise PeerError("the peer was disconnected meanwhile, or is not who it claims to be")
        if not waiter.done():
            waiter.cancel()
            raise TimeoutError(
                f"no answer from {endpoint} within {timeout_s:g} s: nobody listens there, a firewall is between, "
                "or it does not accept this node (its peer id and network secret must be right)"
            )

    async def disconnect(self, peer: str) -> None:
        """Forget a peer.

        Raises:
            UsageError: there is none of that name.
        """
        session = self._life.running
        session.remove(session.contacts.find(peer))
        await self._life.save()
        await self._life.set_routes()

    async def add_wireguard(
        self,
        public_key: str,
        *,
        name: str,
        allowed_ips: builtins.list[str],
        endpoint: str | None,
        preshared_key: str | None,
        keepalive_s: float | None = None,
    ) -> PeerStatus:
        """Take a stock WireGuard device as a peer, and route its addresses to it.

        Its endpoint may have a name that has no address yet.

        Raises:
            UsageError: a key, a prefix or the endpoint is wrong, or belongs to another peer.
        """
        session = self._life.running
        try:
            key = decode_wireguard_key(public_key)
            psk = decode_wireguard_key(preshared_key) if preshared_key else bytes(KEY_BYTES)
            allowed = tuple(ip_network(prefix, strict=False) for prefix in allowed_ips)
        except (DecodeError, ValueError) as error:
            raise UsageError(str(error)) from error
        if not name.isprintable():
            raise UsageError("the name of a device has printable characters only")
        if not allowed:
            raise UsageError("a WireGuard device needs at least one allowed address")
        address = dial.decode_endpoint(endpoint) if endpoint is not None else None
        if address is not None and not dial.is_name(address):
            await self._life.underlay.find(address)
        peer = session.contacts.add_wireguard(key, name, allowed, psk, round((keepalive_s or 0) * 1_000_000_000))
        try:
            await self._life.set_routes()
        except (UsageError, TransportError):
            session.remove(peer)
            await self._life.set_routes()
            raise
        if address is not None:
            peer.endpoints.configure(address)
            self._life.dialler.call(peer)
        await self._life.save()
        return describe(peer, monotonic_ns())

    async def ping(self, peer: str, *, timeout_s: float = 5.0, size: int | None = None) -> Pong:
        """Send one probe to a peer and wait for its answer.

        Raises:
            UsageError: no such peer, a stock device, which has no probes, or a size that no datagram has.
            TimeoutError: no answer.
        """
        session = self._life.running
        found = session.contacts.find(peer)
        if not found.is_weft:
            raise UsageError(f"{peer} is a WireGuard device; ping its address instead")
        if size is not None and size > MAX_PING_BYTES:
            raise UsageError(f"a probe has at most {MAX_PING_BYTES:,} bytes: more fits no datagram")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if not found.tunnel.is_up(monotonic_ns()):
            up = session.wait_until_up(found)
            session.call(found, None)
            await asyncio.wait({up}, timeout=timeout_s)
            if not up.done() or up.cancelled():
                up.cancel()
                raise TimeoutError(f"no session with {peer} within {timeout_s:g} s")
        pong = session.proving.ping(found, size or MIN_PING_BYTES)
        await asyncio.wait({pong}, timeout=max(0.0, deadline - loop.time()))
        if not pong.done() or pong.cancelled():
            pong.cancel()
            raise TimeoutError(f"no answer from {peer} within {timeout_s:g} s")
        answer = pong.result()
        return Pong(
            peer=peer,
            address=str(IPv6Address(found.address)),
            path="direct",
            endpoint=str(found.path.endpoint),
            rtt_ms=answer.rtt_ns / 1e6,
            size=answer.size,
        )
