"""What becomes of a packet that somebody thinks of: routes, firewall and path, asked step by step.

Nothing is sent, and nothing changes. The firewall is asked by its own explanation of itself; routes and paths are read
as the datapath reads them.

| direction | what is looked at, in this order |
|---|---|
| in | whether the source belongs to the peer, what the firewall does, whether there is an interface |
| out | whose the destination is, what the firewall does, whether there is a session, how the packet fits the path |

In a node with the stack it is not the firewall that decides, but whether the host has a program that listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, Literal

from weft.engine.contacts import Contacts
from weft.engine.observed import Outcome, Packet, Trace, TraceStep
from weft.engine.peer import Peer
from weft.engine.record import record_of, title_of
from weft.engine.session import NODE_ITSELF
from weft.engine.transmit import BURST_OVERHEAD_BYTES, largest_burst
from weft.errors import DecodeError, UsageError
from weft.firewall.explain import REASONS, Notes
from weft.firewall.firewall import Firewall
from weft.firewall.judge import Verdict
from weft.firewall.rejections import rejection_of
from weft.firewall.rules import Rule, decode_rule, encode_rule
from weft.identity import encode_wireguard_key
from weft.packet import icmp, icmpv6, tcp, udp
from weft.packet.answers import Unreachable, destination_unreachable, echo_reply, packet_too_big
from weft.packet.describe import FLAG_LETTERS, describe
from weft.packet.ip import encode_packet
from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP
from weft.paths.mtu import BASE_MTU

if TYPE_CHECKING:
    from weft.stack.host import Host

Address = IPv4Address | IPv6Address

_VERDICTS: Final[dict[Verdict, Outcome]] = {
    Verdict.ACCEPT: "accept",
    Verdict.REJECT: "reject",
    Verdict.DROP: "drop",
}


@dataclass(kw_only=True)
class _Draft:
    """A trace in the making."""

    direction: Literal["in", "out"]
    data: bytes
    peer: Peer | None
    verdict: Outcome
    reason: str = ""
    rule: Rule | None = None
    answer: bytes | None = None
    steps: list[TraceStep] = field(default_factory=list)
    peers: dict[str, str] = field(default_factory=dict)

    def add(self, stage: str, text: str) -> None:
        self.steps.append(TraceStep(stage=stage, text=text))

    def end(self, verdict: Outcome, reason: str = "") -> None:
        self.verdict, self.reason = verdict, reason

    def take(self, notes: Notes) -> None:
        """Take what the firewall said."""
        for stage, text in notes.steps:
            self.add(stage, text)
        self.rule = notes.rule
        if notes.reason is not None:
            self.reason = REASONS[notes.reason.removeprefix("outbound_")]

    def finished(self) -> Trace:
        return Trace(
            direction=self.direction,
            packet=describe(self.data),
            peer=_title(self.peer) if self.peer is not None else None,
            verdict=self.verdict,
            rule=encode_rule(self.rule) if self.rule is not None else None,
            reason=self.reason or None,
            answer=describe(self.answer) if self.answer is not None else None,
            steps=self.steps,
            peers=self.peers,
        )


class Tracer:
    """Asks for one node.

    Args:
        contacts: its peers.
        firewall: in front of its interface.
        own: its addresses, the one in fc00::/8 first.
        has_interface: whether there is one.
        host: behind it, if it is inside this node.
        now: monotonic ns.
    """

    def __init__(
        self,
        contacts: Contacts,
        firewall: Firewall,
        own: Sequence[Address],
        *,
        has_interface: bool,
        now: int,
        host: Host | None = None,
    ) -> None:
        self._contacts = contacts
        self._firewall = firewall
        self._own = own
        self._has_interface = has_interface
        self._host = host
        self._now = now

    def trace_in(self, packet: Packet, peer: str) -> Trace:
        """What becomes of a packet that a peer sends.

        Raises:
            UsageError: there is no such peer or packet.
        """
        sender = self._contacts.find(peer)
        sources = [_decode_address(packet.source)] if packet.source else _hosts(sender)
        source, destination = _pair(sources, [_decode_address(packet.destination)] if packet.destination else self._own)
        draft = _Draft(direction="in", data=_encode(packet, source, destination), peer=sender, verdict="accept")
        owner = self._contacts.routes.lookup(source.packed)
        if source.packed != sender.address and owner is not sender:
            belongs = f"belongs to {_title(owner)}" if owner is not None else "is of no peer"
            draft.add("source", f"{source} {belongs}; only its peer may send from there")
            draft.end("drop", "its source is not the peer's")
            return draft.finished()
        draft.add("source", f"{source} belongs to {_title(sender)}")
        verdict, notes = self._firewall.explain_inbound(draft.data, self._now, sender.tunnel.peer_public)
        draft.take(notes)
        draft.peers = self._titles()
        draft.verdict = _VERDICTS[verdict]
        if verdict is Verdict.REJECT:
            draft.answer = rejection_of(draft.data)
        elif verdict is Verdict.ACCEPT and not self._has_interface:
            draft.add("interface", "there is none to hand it to; `weft fc00 start` makes it")
            draft.end("drop", "there is no interface")
        elif self._host is not None:
            self._ask_host(self._host, draft)
        return draft.finished()

    def trace_out(self, packet: Packet) -> Trace:
        """What becomes of a packet that a program on this machine sends.

        Args:
            packet: its destination is an address, or the name of a peer.

        Raises:
            UsageError: there is no such packet.
        """
        sources = [_decode_address(packet.source)] if packet.source else self._own
        source, destination = _pair(sources, self._places(packet.destination or ""))
        data = _encode(packet, source, destination)
        peer = self._contacts.routes.lookup(destination.packed)
        draft = _Draft(direction="out", data=data, peer=peer, verdict="send")
        if not self._has_interface:
            draft.add("interface", "there is none that could give it; `weft fc00 start` makes it")
        if peer is None:
            self._end_unroutable(draft, source, destination)
            return draft.finished()
        draft.add("route", f"{destination} belongs to {_title(peer)}")
        passes, notes = self._firewall.explain_outbound(data, self._now)
        draft.take(notes)
        if passes:
            self._go(draft, peer, source)
        else:
            draft.end("drop", draft.reason)
        return draft.finished()

    def _ask_host(self, host: Host, draft: _Draft) -> None:
        from weft.engine.host_ports import taker

        found = taker(host, draft.data)
        draft.add("stack", found or "nobody listens there; to listen is what lets others in, whatever the rules are")
        if found is None:
            draft.end("reject", "nobody listens there")
            draft.answer = rejection_of(draft.data)

    def _titles(self) -> dict[str, str]:
        """What the peers are called whose keys are in the rules."""
        keys = {rule.source for rule in self._firewall.rules() if rule.source is not None}
        records = {key: self._contacts.record(key) for key in keys}
        return {encode_wireguard_key(key): title_of(record) for key, record in records.items() if record is not None}

    def _places(self, destination: str) -> list[Address]:
        """What a person may mean by a destination: an address, or those of a peer."""
        try:
            return [ip_address(destination)]
        except ValueError:
            return _hosts(self._contacts.find(destination))

    def _end_unroutable(self, draft: _Draft, source: Address, destination: Address) -> None:
        if destination.packed == NODE_ITSELF:
            draft.add("route", f"{destination} is the node itself")
            draft.answer = echo_reply(draft.data)
            if draft.answer is not None:
                draft.verdict = "local"
                return
        if destination in self._own:
            deliverer = "whose system delivers that without weft" if self._host is None else "whose stack delivers that"
            draft.add("route", f"{destination} is this node itself, {deliverer}")
            draft.verdict = "local"
            return
        draft.add("route", f"no peer has {destination}; `weft peer list` shows what they have")
        draft.end("unreachable", "no peer has its destination")
        draft.answer = destination_unreachable(draft.data, Unreachable.ADDRESS, source.packed)

    def _go(self, draft: _Draft, peer: Peer, source: Address) -> None:
        """What the session and the path make of a packet that may leave."""
        if not peer.tunnel.is_up(self._now):
            doing = "its handshake is under way" if peer.tunnel.is_handshaking else "it is called now"
            draft.add("session", f"there is none with {_title(peer)}: the packet waits, {doing}")
            draft.end("wait", "there is no session yet")
        else:
            draft.add("session", f"there is one with {_title(peer)}")
        if peer.path.endpoint is None:
            draft.add("path", "nobody knows where the peer is; it has to call")
        else:
            pieces = peer.path.size.pieces if peer.burst_limit else 1
            mode = f"bursts of up to {pieces} datagrams" if pieces > 1 else "single packets"
            proven = "" if peer.path.is_proven else ", which has not shown yet that it is there"
            draft.add("path", f"direct to {peer.path.endpoint}{proven}; {mode}")
        self._fit(draft, peer, source)

    def _fit(self, draft: _Draft, peer: Peer, source: Address) -> None:
        length, room = len(draft.data), peer.packet_room
        if length <= room:
            draft.add("size", f"{length} bytes fit one datagram, which takes {room}")
        elif length + BURST_OVERHEAD_BYTES <= largest_burst(peer):
            pieces = -(-(length + BURST_OVERHEAD_BYTES) // peer.piece)
            draft.add("size", f"{length} bytes fit no datagram, and go as a burst of {pieces}")
        elif source.version == 6 and length <= BASE_MTU:
            draft.add("size", f"{length} bytes fit no datagram, and go in IP fragments")
        else:
            fits = max(room, BASE_MTU) if source.version == 6 else room
            draft.add("size", f"{length} bytes do not fit; {fits} do")
            draft.end("too-big", "it is too big for the path")
            draft.answer = packet_too_big(draft.data, fits, source.packed)


def _encode(packet: Packet, source: Address, destination: Address) -> bytes:
    """The packet.

    Raises:
        UsageError: there is no such packet.
    """
    protocol, header = _header(packet, source.version)
    room = packet.size - (40 if source.version == 6 else 20) - len(header)
    message = bytearray(header + bytes(max(0, room)))
    if protocol == UDP:
        message[udp.LENGTH : udp.LENGTH + 2] = len(message).to_bytes(2, "big")
    return encode_packet(source.packed, destination.packed, protocol, bytes(message))


def _header(packet: Packet, version: int) -> tuple[int, bytes]:
    try:
        rule = decode_rule(packet.what)
    except DecodeError as error:
        raise UsageError(f"expected {error.expected}") from error
    if rule.source is not None or (rule.protocol != "icmp" and not rule.port):
        raise UsageError(
            f"{packet.what}: a packet goes to one port, as /tcp/22 or /udp/53, or is an echo request, /icmp"
        )
    if rule.protocol == "icmp":
        if version == 6:
            return ICMPV6, icmpv6.encode_icmpv6(icmpv6.Icmpv6Header(icmpv6.ECHO_REQUEST, 0, 1))
        return ICMP, icmp.encode_icmp(icmp.IcmpHeader(icmp.ECHO_REQUEST, 0, 1))
    if rule.protocol == "udp":
        return UDP, udp.encode_udp(udp.UdpHeader(packet.source_port, rule.port, udp.HEADER_BYTES))
    flags = sum(flag for flag, letter in FLAG_LETTERS.items() if letter in packet.flags)
    return TCP, tcp.encode_tcp(tcp.TcpHeader(packet.source_port, rule.port, 0, 0, flags, 65_535))


def _decode_address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is no IP address") from None


def _pair(sources: Sequence[Address], destinations: Sequence[Address]) -> tuple[Address, Address]:
    """Where a packet comes from and goes to: the first that go together.

    Raises:
        UsageError: none do.
    """
    for source in sources:
        for destination in destinations:
            if source.version == destination.version:
                return source, destination
    names = [", ".join(map(str, each)) or "nowhere" for each in (sources, destinations)]
    raise UsageError(f"no packet goes from {names[0]} to {names[1]}: name a source and a destination of one IP version")


def _hosts(peer: Peer) -> list[Address]:
    """An address of each network of a peer; of what leads everywhere, none."""
    return [
        network.network_address + (1 if network.num_addresses > 1 else 0)
        for network in peer.allowed
        if network.prefixlen
    ]


def _title(peer: Peer) -> str:
    return title_of(record_of(peer))
