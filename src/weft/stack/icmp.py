"""ICMP and ICMPv6 of the host: it answers pings, pings others, says what it refuses, and hears what others refuse.

    in                      what is done
    echo request            a reply with the same data, but not to multicast or broadcast
    echo reply              the ping that waits for it ends
    error                   quotes a packet of ours: whose that was is told, path MTUs are lowered before
    anything else           counted

Errors that go out are bounded in sum and by source; replies in sum.

Source: RFC 792, RFC 1122 section 3.2.2, RFC 4443 sections 2.4, 4.1 and 4.2; RFC 5927 (what is believed).
Not done here: neighbour and router discovery, redirects: there is no link layer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from weft.errors import DecodeError
from weft.packet import answers, icmp, icmpv6
from weft.packet.ip import addresses
from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP
from weft.rates import Rate, SourceRates
from weft.stack.endpoint import Endpoint
from weft.stack.extensions import Problem
from weft.stack.failure import Failure, StackError
from weft.stack.icmp_error import REFUSED, PathError, Quote, decode_error, decode_quote
from weft.stack.ip import Ip
from weft.stack.outgoing import Outgoing
from weft.stack.ping import Ping, Pings
from weft.stack.socket import Socket

ERRORS_PER_S: Final = 500
ERRORS_BURST: Final = 100
ERRORS_PER_SOURCE_PER_S: Final = 50
ERRORS_PER_SOURCE_BURST: Final = 20
SOURCES: Final = 1024
REPLIES_PER_S: Final = 1000
REPLIES_BURST: Final = 200


class TcpErrors(Protocol):
    """What TCP does with errors."""

    def is_on_the_way(self, local: Endpoint, remote: Endpoint, sequence: int) -> bool:
        """Whether a quoted segment was sent and is not acknowledged."""

    def receive_error(self, error: PathError, local: Endpoint, remote: Endpoint) -> None:
        """An error quotes a segment that is on the way."""


class UdpErrors(Protocol):
    """What UDP does with errors."""

    def has_socket(self, local: Endpoint, remote: Endpoint) -> bool:
        """Whether a quoted datagram may have been sent."""

    def receive_error(self, error: PathError, local: Endpoint, remote: Endpoint, now: int) -> None:
        """An error quotes a datagram."""


class Icmp:
    """The machine of both protocols."""

    def __init__(self, ip: Ip, random_bytes: Callable[[int], bytes], events: deque[Socket]) -> None:
        """Begin without pings; `attach` comes before the first packet.

        Args:
            ip: sends.
            random_bytes: gives that many random bytes.
            events: of the host.
        """
        self._ip = ip
        self._drops = ip.drops
        self._pings = Pings(random_bytes, events)
        self._errors = Rate(ERRORS_PER_S, ERRORS_BURST)
        self._errors_by_source = SourceRates(ERRORS_PER_SOURCE_PER_S, ERRORS_PER_SOURCE_BURST, SOURCES)
        self._replies = Rate(REPLIES_PER_S, REPLIES_BURST)
        self._tcp: TcpErrors
        self._udp: UdpErrors

    def attach(self, tcp: TcpErrors, udp: UdpErrors) -> None:
        """Say who is told of errors."""
        self._tcp, self._udp = tcp, udp

    def ping(self, destination: bytes, now: int, *, data: bytes = b"", timeout_s: float = 5) -> Ping:
        """Send an echo request.

        Args:
            destination: 4 or 16 bytes.
            now: monotonic ns.
            data: comes back in the reply.
            timeout_s: how long to wait for it.

        Returns:
            A socket to which something happens when the reply is there, or there will be none.

        Raises:
            StackError: NO_ROUTE; NO_ROOM, too many wait already; TOO_LONG.
        """
        path = self._ip.path(destination)
        ping = self._pings.start(destination, bytes(data), now, now + int(timeout_s * 1e9))
        is_ipv6 = len(destination) == 16
        try:
            kind = icmpv6.ECHO_REQUEST if is_ipv6 else icmp.ECHO_REQUEST
            message = bytes((kind, 0, 0, 0)) + ping.request
            self._ip.send(path.source, destination, ICMPV6 if is_ipv6 else ICMP, [message])
        except StackError:
            self._pings.forget(ping)
            raise
        return ping

    def receive(
        self, packet: memoryview, start: int, source: bytes, destination: bytes, segment: int, now: int
    ) -> None:
        """Take a message.

        Args:
            packet: a whole IP packet; its checksums are right.
            start: of the message.
            source: who sent it.
            destination: an address of ours, or a group.
            segment: 0.
            now: monotonic ns.
        """
        message = packet[start:]
        is_ipv6 = len(source) == 16
        kind = message[0]
        if kind == (icmpv6.ECHO_REQUEST if is_ipv6 else icmp.ECHO_REQUEST):
            self._reply(message, source, destination, now)
        elif kind == (icmpv6.ECHO_REPLY if is_ipv6 else icmp.ECHO_REPLY):
            if not self._pings.receive_reply(source, message[icmp.REST :], now):
                self._drops["icmp: reply without request"] += 1
        elif kind in (icmpv6.ERRORS if is_ipv6 else icmp.ERRORS):
            self._receive_error(message, now, is_ipv6=is_ipv6)
        else:
            self._drops["icmp: other type"] += 1

    def handle_timer(self, now: int) -> None:
        """Give up pings."""
        self._pings.handle_timer(now)

    def next_timer(self) -> int | None:
        """When `handle_timer` next has something to do, monotonic ns."""
        return self._pings.next_timer()

    def refuse_port(self, packet: memoryview, start: int, now: int) -> None:
        """Nobody listens on the UDP port that a packet is for.

        Args:
            packet: the whole packet.
            start: of its UDP header.
            now: monotonic ns.
        """
        source, destination = addresses(packet)
        if self._ip.addresses.is_local(source):
            # Within the host no packet is needed, and no rate.
            ports = packet[start : start + 4]
            self._udp.receive_error(REFUSED, _endpoint(source, ports[:2]), _endpoint(destination, ports[2:]), now)
        elif self._may_answer(source, now):
            self._send(answers.destination_unreachable(packet, answers.Unreachable.PORT, destination))

    def refuse_protocol(self, packet: memoryview, pointer: int, now: int) -> None:
        """There is no transport for what a packet carries.

        Args:
            packet: the whole packet, to one of our addresses.
            pointer: offset of the field that says what it carries.
            now: monotonic ns.
        """
        source, destination = addresses(packet)
        if self._may_answer(source, now):
            self._send(answers.unknown_protocol(packet, pointer, destination))

    def refuse_header(self, packet: memoryview, problem: Problem, now: int) -> None:
        """An IPv6 packet has a header that can't be processed; its sender is told, if the problem is one to be told.

        Args:
            packet: the whole packet.
            problem: what it is.
            now: monotonic ns.
        """
        source, destination = addresses(packet)
        if problem.code is None or not self._may_answer(source, now):
            return
        ours = self._ip.addresses.choose(source) if self._ip.addresses.is_many(destination) else destination
        if ours is not None:
            code, pointer, to_many = problem.code, problem.pointer, problem.to_many
            self._send(answers.parameter_problem(packet, code, pointer, ours, to_many=to_many))

    def tell_expired(self, fragment: bytes, now: int) -> None:
        """The other fragments of a packet did not come in time.

        Args:
            fragment: the first one.
            now: monotonic ns.
        """
        source, destination = addresses(fragment)
        if self._ip.addresses.is_local(destination) and self._may_answer(source, now):
            self._send(answers.time_exceeded(fragment, destination, in_reassembly=True))

    def _may_answer(self, source: bytes, now: int) -> bool:
        """Whether the rates allow one more error."""
        if self._errors_by_source.allows(source, now) and self._errors.allows(now):
            return True
        self._drops["icmp: error over the rate"] += 1
        return False

    def _send(self, answer: bytes | None) -> None:
        if answer is not None:
            self._ip.enqueue(Outgoing([answer], 0, False), len(answer))

    def _reply(self, message: memoryview, source: bytes, destination: bytes, now: int) -> None:
        if not self._ip.addresses.is_local(destination):
            self._drops["icmp: echo request to many"] += 1
        elif not self._replies.allows(now):
            self._drops["icmp: reply over the rate"] += 1
        else:
            is_ipv6 = len(source) == 16
            reply = bytes((icmpv6.ECHO_REPLY if is_ipv6 else icmp.ECHO_REPLY, 0, 0, 0)) + message[icmp.REST :]
            self._ip.send(destination, source, ICMPV6 if is_ipv6 else ICMP, [reply])

    def _receive_error(self, message: memoryview, now: int, *, is_ipv6: bool) -> None:
        error = decode_error(message, is_ipv6=is_ipv6)
        if error is None:
            self._drops["icmp: other error"] += 1
            return
        try:
            quote = decode_quote(message, is_ipv6=is_ipv6)
        except DecodeError:
            self._drops["icmp: error with a bad quote"] += 1
            return
        if not self._ip.addresses.is_local(quote.source):
            self._drops["icmp: error about a stranger's packet"] += 1
            return
        self._tell(error, quote, now)

    def _tell(self, error: PathError, quote: Quote, now: int) -> None:
        """Tell an error to whom it concerns."""
        transport = quote.transport
        if quote.protocol in {ICMP, ICMPV6}:
            if self._pings.receive_error(error.failure, quote.destination, transport):
                self._heed_mtu(error, quote, now)
            else:
                self._drops["icmp: error about nothing that was sent"] += 1
            return
        local, remote = _endpoint(quote.source, transport[:2]), _endpoint(quote.destination, transport[2:4])
        if quote.protocol == TCP:
            sequence = int.from_bytes(transport[4:8], "big")
            if self._tcp.is_on_the_way(local, remote, sequence):
                self._tcp.receive_error(self._heed_mtu(error, quote, now), local, remote)
                return
        elif quote.protocol == UDP and self._udp.has_socket(local, remote):
            self._udp.receive_error(self._heed_mtu(error, quote, now), local, remote, now)
            return
        self._drops["icmp: error about nothing that was sent"] += 1

    def _heed_mtu(self, error: PathError, quote: Quote, now: int) -> PathError:
        """Lower the path MTU, if that is what an error is about; returns the error with the MTU that is used now."""
        if error.failure is not Failure.TOO_LONG:
            return error
        self._ip.lower_mtu(quote.destination, error.mtu, quote.length, now)
        return error._replace(mtu=self._ip.mtu(quote.destination))


def _endpoint(address: bytes, port: memoryview) -> Endpoint:
    return Endpoint(address, int.from_bytes(port, "big"))
