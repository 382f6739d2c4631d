"""To call one peer and wait for it: until its tunnel is up, and until a probe is answered.

Not done here: what is settled about the peer when it answers (verbs/peers.py); where else it may be (dial.py).
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address

from weft.burst.header import DATA_OVERHEAD_BYTES
from weft.engine.dial import STEP_S
from weft.engine.peer import Endpoint, Peer
from weft.engine.session import Session
from weft.engine.status import Pong
from weft.errors import PeerError, UsageError
from weft.io.clock import monotonic_ns
from weft.mesh.probe import MIN_PING_BYTES

PROBE_S = 2.0
"""How long a peer that is to be connected again may take to show that its session still stands."""
MAX_PING_BYTES = 65_507 - DATA_OVERHEAD_BYTES
"""What the largest datagram of UDP over IPv4 carries inside the tunnel."""

Waiter = asyncio.Future[None]


async def answers(session: Session, peer: Peer) -> bool:
    """Whether the session with a peer is of use: a weft node answers a probe, a stock device is believed."""
    if not (peer.path.is_proven and peer.tunnel.is_up(monotonic_ns())):
        return False
    if not peer.is_weft:
        return True
    if not peer.is_known:
        return False
    pong = session.proving.ping(peer, MIN_PING_BYTES)
    await asyncio.wait({pong}, timeout=PROBE_S)
    return pong.done() and not pong.cancelled()


async def at_each(session: Session, peer: Peer, up: Waiter, endpoints: list[Endpoint]) -> None:
    """Call a peer at the endpoints that its name leads to, one after the other, until it is up; at the last one too."""
    for endpoint in endpoints:
        session.call(peer, endpoint)
        if endpoint is not endpoints[-1]:
            await asyncio.wait({up}, timeout=STEP_S)
        if up.done():
            return


async def until_up(up: Waiter, at: str, timeout_s: float) -> None:
    """Wait for the session of a peer that was called.

    Args:
        up: of `Session.wait_until_up`.
        at: where it was called, for a person.
        timeout_s: how long.

    Raises:
        TimeoutError: no answer; the message says what may be the reason.
        PeerError: it was removed or disconnected meanwhile.
    """
    try:
        await asyncio.wait({up}, timeout=timeout_s)
        if up.cancelled():
            raise PeerError("the peer was disconnected meanwhile, or is not who it claims to be")
        if not up.done():
            raise TimeoutError(
                f"no answer from {at} within {timeout_s:g} s: nobody listens there, a "
                "firewall is between, or it does not accept this node (its peer id and network secret must be right)"
            )
    finally:
        up.cancel()


async def ping(session: Session, name: str, timeout_s: float, size: int | None) -> Pong:
    """Send one probe to a peer and wait for its answer.

    Args:
        session: whose peer it is.
        name: of the peer, as a person says it.
        timeout_s: how long, for a session that is needed first and for the answer together.
        size: bytes of the probe inside the tunnel; None is the least.

    Raises:
        UsageError: no such peer, a stock device, which has no probes, or a size that no datagram has.
        TimeoutError: no answer.
    """
    found = session.contacts.find(name)
    if not found.is_weft:
        raise UsageError(f"{name} is a WireGuard device; ping its address instead")
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
            raise TimeoutError(f"no session with {name} within {timeout_s:g} s")
    pong = session.proving.ping(found, size or MIN_PING_BYTES)
    await asyncio.wait({pong}, timeout=max(0.0, deadline - loop.time()))
    if not pong.done() or pong.cancelled():
        pong.cancel()
        raise TimeoutError(f"no answer from {name} within {timeout_s:g} s")
    answer = pong.result()
    return Pong(
        peer=name,
        address=str(IPv6Address(found.address)),
        path="direct",
        endpoint=str(found.path.endpoint),
        rtt_ms=answer.rtt_ns / 1e6,
        size=answer.size,
    )
