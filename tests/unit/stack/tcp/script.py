"""Scripts of segments in and out, in packetdrill's manner: one host, and a peer that is the test.

    def test_a_reply(script: Script) -> None:
        script.listen()
        script.inject("S", seq=0, mss=1000)
        script.expect("S.", seq=0, ack=1, mss=1000)
        script.inject(".", seq=1, ack=1)
        script.accept()
        script.inject("P.", seq=1, ack=1, data=b"hello")
        script.expect(".", seq=1, ack=6, after=40)      # not a nanosecond earlier
        assert script.receive() == b"hello"

Every segment that goes out has to be expected, in order, before the script goes on and before it ends: flags, sequence
and acknowledgment number and length always, the rest if it is said. Sequence numbers count from the initial ones of
both sides, our timestamps from our first. Where no SYN was seen they are those of the wire.

Flags are those of tcpdump: S, F, R, P, U, and a dot for ACK. Time is virtual, in milliseconds, and moves with `advance`
and `after` only. Each header that leaves is decoded, and its checksum completed and verified.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from ipaddress import ip_interface
from random import Random
from types import TracebackType
from typing import NamedTuple, Self

from weft.packet.checksum import complete, verify
from weft.packet.ip import addresses, decode_upper_layer, encode_packet
from weft.packet.protocols import TCP
from weft.packet.tcp import HEADER_BYTES, TcpHeader, decode_tcp, encode_tcp
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure
from weft.stack.host import Host
from weft.stack.outgoing import Outgoing
from weft.stack.socket import Socket
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.listener import Listener
from weft.stack.tcp.options import Block, Options, decode_options, encode_options
from weft.stack.tcp.sequence import MASK
from weft.stack.tcp.states import State

MS = 1_000_000
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32}
THEIR_ISN = 0xFFFF_FF00
"""Near the end, so that every script wraps."""
OUR_PORT = 80
PEER_PORT = 5000
ADDRESSES = {
    4: (bytes((10, 7, 0, 1)), bytes((10, 7, 0, 2))),
    6: (b"\xfc" + bytes(14) + b"\1", b"\xfc" + bytes(14) + b"\2"),
}
ANY = Endpoint(bytes(16), OUR_PORT)


class Sent(NamedTuple):
    """A segment, or super-segment, that went out; numbers as in a script."""

    flags: str
    seq: int
    ack: int
    length: int
    data: bytes
    window: int
    urgent: int
    segment: int
    options: Options
    port: int
    """Of the peer."""
    packet: bytes
    """The whole of it, with its checksum if it is no super-packet."""


@dataclass
class Flow:
    """What numbers count from."""

    ours: int = 0
    theirs: int = 0
    timestamp: int | None = None


class Script:
    """One host with one address, and its peer.

    Args:
        version: of IP.
        mtu: of the host; by default such that full segments have 1000 bytes.
        their_isn: of the peer, 32 bits.
        now: where time begins, ms.
        seed: of chance.

    Attributes:
        host: the host.
        now: monotonic ns.
        connection: the one that the verbs are about.
        listener: the one that `accept` is about.
        sent: what went out and was not expected yet.
    """

    def __init__(
        self, *, version: int = 4, mtu: int = 0, their_isn: int = THEIR_ISN, now: int = 1_000_000, seed: int = 1
    ) -> None:
        self.version = version
        self.host = Host(Random(seed).randbytes, mtu=mtu or {4: 1040, 6: 1060}[version])
        self.us, self.peer = ADDRESSES[version]
        self.host.addresses.add(ip_interface((self.us, {4: 24, 6: 64}[version])))
        self.now = now * MS
        self.their_isn = their_isn
        self.our_port = OUR_PORT
        self.peer_port = PEER_PORT
        self.sent: deque[Sent] = deque()
        self._connection: Connection | None = None
        self._listener: Listener | None = None
        self._flows: defaultdict[int, Flow] = defaultdict(lambda: Flow(theirs=self.their_isn))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.expect_nothing()

    # What the user does.

    @property
    def connection(self) -> Connection:
        assert self._connection is not None, "there is a connection"
        return self._connection

    @property
    def listener(self) -> Listener:
        assert self._listener is not None, "somebody listens"
        return self._listener

    @property
    def state(self) -> State:
        return self.connection.state

    @property
    def failure(self) -> Failure | None:
        return self.connection.failure

    def connect(self, port: int = 0) -> Connection:
        """To the peer's port 80, from any port of ours."""
        self.expect_nothing()
        self.peer_port = 80
        local = Endpoint(bytes(len(self.us)), port)
        self._connection = self.host.tcp.connect(Endpoint(self.peer, 80), self.now, local=local)
        self.our_port = self._connection.local.port
        self._flush()
        return self._connection

    def listen(self, backlog: int = 128) -> Listener:
        """On our port 80 of all addresses."""
        self._listener = self.host.tcp.listen(ANY, backlog=backlog)
        return self._listener

    def accept(self) -> Connection:
        """The connection that waits the longest; there must be one."""
        self._connection = self.listener.accept()
        return self.connection

    def send(self, data: bytes | int, *, urgent: bool = False) -> None:
        """Write bytes, or that many of a pattern."""
        self.expect_nothing()
        self.connection.send(pattern(data) if isinstance(data, int) else data, urgent=urgent)
        self._flush()

    def receive(self, limit: int | None = None) -> bytes:
        """Take what is there, or some of it."""
        self.expect_nothing()
        data = b"".join(self.connection.receive(limit))
        self._flush()
        return data

    def shutdown(self) -> None:
        self.expect_nothing()
        self.connection.shutdown(self.now)
        self._flush()

    def close(self) -> None:
        self.expect_nothing()
        self.connection.close(self.now)
        self._flush()

    def abort(self) -> None:
        self.expect_nothing()
        self.connection.abort(self.now)
        self._flush()

    def flush(self) -> None:
        """See to what other verbs of the connection did."""
        self._flush()

    def events(self) -> list[Socket]:
        """The sockets to which something has happened since the last time."""
        found: list[Socket] = []
        while (socket := self.host.next_event()) is not None:
            found.append(socket)
        return found

    # Short ways to a connection.

    def accepted(
        self,
        *,
        window: int = 65535,
        mss: int | None = 1000,
        ws: int | None = None,
        sack: bool = False,
        ts: int | None = None,
    ) -> Connection:
        """A connection that the peer has opened, by default without any option but its segment size."""
        self.listen()
        self.inject("S", seq=0, window=window, mss=mss, ws=ws, sack=sack, ts=None if ts is None else (ts, 0))
        self.sent.popleft()
        # The window of what is no SYN is scaled.
        shifted = window >> (ws or 0)
        self.inject(".", seq=1, ack=1, window=shifted, ts=None if ts is None else (ts, 0))
        self.accept()
        self.events()
        return self.connection

    def connected(
        self,
        *,
        window: int = 65535,
        mss: int | None = 1000,
        ws: int | None = None,
        sack: bool = False,
        ts: int | None = None,
    ) -> Connection:
        """A connection that we have opened."""
        self.connect()
        self.sent.popleft()
        self.inject("S.", seq=0, ack=1, window=window, mss=mss, ws=ws, sack=sack, ts=None if ts is None else (ts, 0))
        self.sent.popleft()
        self.events()
        return self.connection

    # What the peer does.

    def inject(
        self,
        flags: str,
        *,
        seq: int,
        ack: int | None = None,
        data: bytes | int = b"",
        window: int = 65535,
        urgent: int = 0,
        mss: int | None = None,
        ws: int | None = None,
        sack: bool = False,
        blocks: tuple[Block, ...] = (),
        ts: tuple[int, int] | None = None,
        options: bytes | None = None,
        segment: int = 0,
        port: int | None = None,
    ) -> None:
        """A segment of the peer arrives.

        Args:
            flags: see the head of this file.
            seq: from the peer's initial sequence number.
            ack: from ours.
            data: the payload, or how many bytes of a pattern that goes on with the sequence numbers.
            window: as it is written into the header.
            urgent: the pointer.
            mss: option.
            ws: option, the shift.
            sack: option, whether selective acknowledgments may be sent.
            blocks: option, from our initial sequence number.
            ts: option, value as it is, echo from our first timestamp.
            options: instead of these, as bytes.
            segment: it is a super-segment.
            port: of the peer, if it is another one.
        """
        self.expect_nothing()
        self.deliver(
            self.packet(
                flags,
                seq=seq,
                ack=ack,
                data=data,
                window=window,
                urgent=urgent,
                mss=mss,
                ws=ws,
                sack=sack,
                blocks=blocks,
                ts=ts,
                options=options,
                is_partial=bool(segment),
                port=port,
            ),
            segment=segment,
        )
        self._flush()

    def packet(
        self,
        flags: str,
        *,
        seq: int,
        ack: int | None = None,
        data: bytes | int = b"",
        window: int = 65535,
        urgent: int = 0,
        mss: int | None = None,
        ws: int | None = None,
        sack: bool = False,
        blocks: tuple[Block, ...] = (),
        ts: tuple[int, int] | None = None,
        options: bytes | None = None,
        is_partial: bool = False,
        port: int | None = None,
    ) -> bytes:
        """What `inject` lets arrive."""
        port = self.peer_port if port is None else port
        flow = self._flows[port]
        if options is None:
            ours = tuple(((left + flow.ours) & MASK, (right + flow.ours) & MASK) for left, right in blocks)
            times = None if ts is None else (ts[0], (ts[1] + (flow.timestamp or 0)) & MASK)
            options = encode_options(Options(mss, ws, sack, ours, times))
        header = TcpHeader(
            port,
            self.our_port,
            (flow.theirs + seq) & MASK,
            0 if ack is None else (flow.ours + ack) & MASK,
            sum(FLAGS[flag] for flag in flags),
            window,
            urgent,
            options=options + bytes(-len(options) % 4),
        )
        payload = pattern(data, seq) if isinstance(data, int) else data
        packet = bytearray(encode_packet(self.peer, self.us, TCP, encode_tcp(header) + payload))
        if not is_partial:
            complete(packet, self._start, TCP)
        return bytes(packet)

    def deliver(self, packet: bytes, *, segment: int = 0) -> None:
        """Let a packet arrive, and nothing leave yet."""
        # A buffer of its own, which is overwritten afterwards: the host must not keep it.
        buffer = bytearray(packet)
        self.host.receive(memoryview(buffer), self.now, segment=segment, is_partial=bool(segment))
        buffer[:] = b"\xa5" * len(buffer)

    # What goes out.

    def expect(
        self,
        flags: str,
        *,
        seq: int,
        ack: int = 0,
        length: int | None = None,
        data: bytes | None = None,
        window: int | None = None,
        urgent: int | None = None,
        segment: int | None = None,
        mss: int | None = None,
        ws: int | None = None,
        sack: bool | None = None,
        blocks: tuple[Block, ...] | None = None,
        ts: tuple[int, int] | None = None,
        options: Options | None = None,
        port: int | None = None,
        after: float | None = None,
    ) -> Sent:
        """The next segment that went out is this one; without `length` and `data` it has no payload.

        Args:
            flags: see the head of this file; exactly these.
            seq: from our initial sequence number.
            ack: from the peer's.
            length: bytes of payload.
            data: the payload.
            window: as it stands in the header.
            urgent: the pointer.
            segment: of a super-segment.
            mss: option.
            ws: option.
            sack: option, whether there is one.
            blocks: option, from the peer's initial sequence number.
            ts: option, value from our first timestamp, echo as it is.
            options: all of them, as they stand in the header.
            port: of the peer.
            after: it goes out so many ms from now, and nothing does before; time moves there.
        """
        if after is not None:
            self._wait(int(after * MS), flags)
        assert self.sent, f"nothing goes out, but should: {flags} {seq}"
        sent = self.sent.popleft()
        flow = self._flows[sent.port]
        wanted = {
            "flags": "".join(sorted(flags)),
            "seq": seq,
            "ack": ack,
            "length": length if length is not None else len(data or b""),
            "data": data,
            "window": window,
            "urgent": urgent,
            "segment": segment,
            "options": options,
            "port": self.peer_port if port is None else port,
        }
        got = {name: getattr(sent, name) for name, value in wanted.items() if value is not None}
        assert got == {name: value for name, value in wanted.items() if value is not None}
        said = sent.options
        if mss is not None:
            assert said.maximum_segment == mss
        if ws is not None:
            assert said.shift == ws
        if sack is not None:
            assert said.sack_permitted is sack
        if blocks is not None:
            assert tuple(((a - flow.theirs) & MASK, (b - flow.theirs) & MASK) for a, b in said.blocks) == blocks
        if ts is not None:
            assert said.timestamps is not None
            assert ((said.timestamps[0] - (flow.timestamp or 0)) & MASK, said.timestamps[1]) == ts
        return sent

    def expect_nothing(self) -> None:
        """Nothing went out that was not expected."""
        assert not self.sent, f"goes out, but should not: {[each[:4] for each in self.sent]}"

    def advance(self, ms: float) -> None:
        """Time passes, with all that happens in it; what goes out waits to be expected."""
        self.expect_nothing()
        self._move(self.now + int(ms * MS))

    def advance_quietly(self, ms: float) -> None:
        """Time passes, and nothing goes out."""
        self.advance(ms)
        self.expect_nothing()

    def take_all(self) -> list[Sent]:
        """What has gone out, for tests that look at it themselves."""
        taken = list(self.sent)
        self.sent.clear()
        return taken

    def drops(self, reason: str) -> int:
        """How often that was counted."""
        return self.host.drops[reason]

    # How it works.

    @property
    def _start(self) -> int:
        return {4: 20, 6: 40}[self.version]

    def _wait(self, span: int, what: str) -> None:
        self.expect_nothing()
        began = self.now
        self._move(began + span, until_sent=True)
        assert self.sent, f"{what} did not go out within {span / MS} ms"
        assert self.now == began + span, f"{what} went out after {(self.now - began) / MS} ms, not {span / MS}"

    def _move(self, until: int, *, until_sent: bool = False) -> None:
        while not (until_sent and self.sent):
            at = self.host.next_timer()
            if at is None or at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            self.host.handle_timer(self.now)
            self._flush()

    def _flush(self) -> None:
        while (outgoing := self.host.next_packet(self.now)) is not None:
            self.sent.append(self._look_at(outgoing))

    def _look_at(self, outgoing: Outgoing) -> Sent:
        packet = bytearray(b"".join(outgoing.parts))
        start = self._start
        assert addresses(packet) == (self.us, self.peer)
        upper = decode_upper_layer(packet)
        assert (upper.protocol, upper.start, upper.end) == (TCP, start, len(packet))
        assert outgoing.is_partial
        assert packet[start + 16 : start + 18] == bytes(2)
        complete(packet, start, TCP)
        assert verify(packet, start, TCP)
        header = decode_tcp(packet, start)
        assert header.reserved == 0
        assert header.source_port == self.our_port
        assert header.urgent_pointer == 0 or header.flags & FLAGS["U"]
        assert header.window == 0 or not header.flags & FLAGS["R"]
        options = decode_options(memoryview(header.options), 0, len(header.options))
        data = bytes(packet[start + HEADER_BYTES + len(header.options) :])
        if outgoing.segment:
            assert 0 < outgoing.segment < len(data)
        else:
            assert len(packet) <= self.host.ip.interface_mtu
        flow = self._flows[header.destination_port]
        if header.flags & FLAGS["S"]:
            flow.ours = header.sequence
        if options.timestamps is not None and flow.timestamp is None:
            flow.timestamp = options.timestamps[0]
        return Sent(
            "".join(sorted(flag for flag, bit in FLAGS.items() if header.flags & bit)),
            (header.sequence - flow.ours) & MASK,
            (header.acknowledgment - flow.theirs) & MASK if header.flags & FLAGS["."] else header.acknowledgment,
            len(data),
            data,
            header.window,
            header.urgent_pointer,
            outgoing.segment,
            options,
            header.destination_port,
            bytes(packet),
        )


def pattern(length: int, at: int = 0) -> bytes:
    """Bytes of which no two pieces nearby are the same."""
    first = at - at % 251
    whole = bytes(range(251)) * (length // 251 + 2)
    return whole[at - first : at - first + length]
