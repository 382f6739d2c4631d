"""What follows from messages that authenticated: for the tunnel, the path, the counts of what was lost, the reports.

Messages of one keypair from one endpoint that come one after the other are a run, and what follows from it is done
once, when the run ends: at another peer's message, or at the end of what a wake-up took.
"""

from __future__ import annotations

from typing import Protocol

from weft.burst.size import REPORT_INTERVAL_NS
from weft.engine.peer import Endpoint, Peer
from weft.noise.keypair import Keypair
from weft.noise.tunnel import Tunnel


class Attendant(Protocol):
    """Who looks after what is not the fast path; the Session."""

    def attend(self, peer: Peer) -> None:
        """Drain the peer's machines and arm its timer anew."""

    def handle_moved(self, peer: Peer, endpoint: Endpoint, now: int) -> None:
        """A message of a peer authenticated that came from another endpoint than its path's."""

    def handle_readdressed(self, peer: Peer, endpoint: Endpoint) -> None:
        """A message of a peer came from where it was, to another address of ours."""

    def handle_unproven(self, peer: Peer, now: int) -> None:
        """A message of a peer came from an endpoint that is not proven, and no question is on its way there."""

    def send_report(self, peer: Peer, now: int) -> None:
        """Tell a peer what was lost of its datagrams."""


class Heard:
    """A run of messages.

    Attributes:
        messages: how many.
        bytes: of all their datagrams.
        highest: counter.
        data: whether any was more than a keepalive.
        packets: whether any brought packets.
    """

    __slots__ = ("bytes", "data", "endpoint", "first", "highest", "keypair", "messages", "packets")

    def __init__(self, keypair: Keypair | None, endpoint: Endpoint | None, counter: int) -> None:
        self.keypair = keypair
        self.endpoint = endpoint
        self.first = self.highest = counter
        self.messages = self.bytes = 0
        self.data = self.packets = False


_NOTHING = Heard(None, None, 0)


class Hearing:
    """Notes what authenticated.

    Attributes:
        run: the one that goes on; the fast path adds to it directly.
    """

    def __init__(self, peers: dict[Tunnel, Peer], attendant: Attendant) -> None:
        self._peers = peers
        self._attendant = attendant
        self.run = _NOTHING

    def hear(self, endpoint: Endpoint, keypair: Keypair, counter: int, length: int, now: int, *, data: bool) -> None:
        """Note one message.

        Args:
            endpoint: where it came from.
            keypair: that opened it.
            counter: of the message, accepted by the window.
            length: bytes of its datagrams.
            now: monotonic ns.
            data: whether it was more than a keepalive.
        """
        run = self.run
        if keypair is not run.keypair or endpoint != run.endpoint:
            if run is not _NOTHING:
                self.settle(now)
            run = self.run = Heard(keypair, endpoint, counter)
        run.messages += 1
        run.bytes += length
        run.highest = max(run.highest, counter)
        if data:
            run.data = True

    def settle(self, now: int) -> None:
        """End the run: tell the peer's machines of it."""
        run, self.run = self.run, _NOTHING
        keypair, endpoint = run.keypair, run.endpoint
        if keypair is None or endpoint is None:
            return
        peer = self._peers.get(keypair.tunnel)
        if peer is None:
            return
        path, meter = peer.path, peer.meter
        if keypair is not peer.receiving and (
            peer.receiving is None or keypair.created_at >= peer.receiving.created_at
        ):
            peer.receiving = keypair
            meter.start(run.first)
        if keypair is peer.receiving:
            meter.seen += run.messages
            meter.highest = max(meter.highest, run.highest)
        known = path.endpoint
        if known is not endpoint:
            if known != endpoint:
                self._attendant.handle_moved(peer, endpoint, now)
            elif isinstance(known, Endpoint) and known.arrival != endpoint.arrival:
                self._attendant.handle_readdressed(peer, endpoint)
        path.handle_received(run.bytes)
        if not path.is_proven and peer.proving is None:
            self._attendant.handle_unproven(peer, now)
        if peer.tunnel.handle_received(keypair, now, data=run.data):
            self._attendant.attend(peer)
        if run.packets and peer.is_known:
            self._report(peer, now)

    def _report(self, peer: Peer, now: int) -> None:
        """Packets came: tell the peer what was lost among them, at once or when the interval is over.

        Not for multigrams, or two idle nodes would report each other's reports.
        """
        if now >= peer.report_at:
            peer.report_at = now + REPORT_INTERVAL_NS
            peer.report_due = False
            self._attendant.send_report(peer, now)
        elif not peer.report_due:
            peer.report_due = True
            self._attendant.attend(peer)
