"""The TUN device: real ones in namespaces of their own, and what it says where there is none."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.system.lab import Host, Lab
from tests.unit.engine import packets
from weft.burst.records import KIND_PACKET, KIND_TCP, KIND_UDP
from weft.errors import TransportError, UsageError
from weft.io import tun as tun_module
from weft.io.device import Read
from weft.io.tun import Tun
from weft.testing.device import inside_namespace

HERE, THERE = b"\xfd" + bytes(14) + b"\1", b"\xfd" + bytes(14) + b"\2"
HERE_4, THERE_4 = b"\x0a\x09\0\1", b"\x0a\x09\0\2"
ALL = ["vnet_hdr", "csum", "tso4", "tso6", "uso"]
WAIT_S = 5


# Without a device.


@pytest.mark.parametrize("name", ["0123456789abcdef", "ü" * 8, "x" * 300])
def test_name_that_is_too_long_is_told_before_anything_is_opened(name: str) -> None:
    with pytest.raises(UsageError, match="at most 15 bytes"):
        Tun(name)


def test_system_without_the_device_file_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun_module, "_DEVICE", "/nowhere/net/tun")
    with pytest.raises(TransportError, match=r"^can't open /nowhere/net/tun: No such file or directory; is the module"):
        Tun("weft0")


def test_other_system_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(TransportError, match="only Linux has"):
        Tun("weft0")


def test_device_file_that_may_not_be_opened_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tun_module.os, "open", refuse)
    with pytest.raises(PermissionError, match=r"^can't open /dev/net/tun; needs root or CAP_NET_ADMIN$"):
        Tun("weft0")


class FakeDevice:
    """Takes what is written instead of a kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, vnet: bool = True) -> None:
        self.written: list[bytes] = []
        self.failure = 0
        self.given: list[bytes] = []
        self.tun = object.__new__(Tun)
        self.tun._fd = 99
        self.tun.has_vnet_header = vnet
        self.tun.offloads = list(ALL) if vnet else []
        self.tun._vnet = bytearray(10)
        self.tun.drops = tun_module.Counter()
        monkeypatch.setattr(tun_module.os, "writev", self._write)
        monkeypatch.setattr(tun_module.os, "readv", self._read)

    def _write(self, fd: int, buffers: list[bytes]) -> int:
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        self.written.append(b"".join(buffers))
        return len(self.written[-1])

    def _read(self, fd: int, buffers: list[Any]) -> int:
        if not self.given:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        data = memoryview(self.given.pop(0))
        length = len(data)
        for buffer in buffers:
            part, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(part)] = part
        return length


def header(written: bytes) -> tuple[int, ...]:
    return struct.unpack("=BBHHHH", written[:10])


@pytest.mark.parametrize(
    ("ends", "options", "tcp_options", "expected"),
    [
        ((HERE, THERE), b"", b"", (1, 4, 60, 1000, 40, 16)),
        ((HERE, THERE), b"", bytes(12), (1, 4, 72, 1000, 40, 16)),
        ((HERE_4, THERE_4), b"", b"", (1, 1, 40, 1000, 20, 16)),
        ((HERE_4, THERE_4), bytes(8), bytes(12), (1, 1, 60, 1000, 28, 16)),
    ],
)
def test_header_of_a_tcp_super_packet_says_what_the_packet_is(
    monkeypatch: pytest.MonkeyPatch,
    ends: tuple[bytes, bytes],
    options: bytes,
    tcp_options: bytes,
    expected: tuple[int, ...],
) -> None:
    device = FakeDevice(monkeypatch)
    fields = {"options": options} if options else {}
    packet = packets.as_partial(packets.tcp(*ends, bytes(5000), tcp_options=tcp_options, **fields))
    assert device.tun.write_super([packet[:300], packet[300:]], KIND_TCP, 1000, expected[4], expected[2])
    (written,) = device.written
    assert header(written) == expected
    assert written[10:] == packet


def test_header_of_a_udp_super_packet_says_what_the_packet_is(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice(monkeypatch)
    for ends, expected in (((HERE, THERE), (1, 5, 48, 1200, 40, 6)), ((HERE_4, THERE_4), (1, 5, 28, 1200, 20, 6))):
        device.tun.write_super([packets.udp(*ends, bytes(5000))], KIND_UDP, 1200, expected[4], expected[2])
        assert header(device.written[-1]) == expected


def test_header_of_a_partial_packet_says_where_the_checksum_is(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice(monkeypatch)
    device.tun.write_partial([packets.udp(HERE, THERE, b"x")], 40, 6)
    assert header(device.written[-1]) == (1, 0, 0, 0, 40, 6)


def test_complete_packet_has_an_empty_header_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for vnet in (True, False):
        device = FakeDevice(monkeypatch, vnet=vnet)
        device.tun.write([b"one ", b"packet"])
        assert device.written == [bytes(10 * vnet) + b"one packet"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0, 0, 0, 0, 0, 0), Read(100, KIND_PACKET, 0, False)),
        ((1, 0, 0, 0, 40, 16), Read(100, KIND_PACKET, 0, True)),
        ((2, 0, 0, 0, 0, 0), Read(100, KIND_PACKET, 0, False)),
        ((1, 1, 40, 1460, 20, 16), Read(100, KIND_TCP, 1460, True)),
        ((1, 4, 60, 1440, 40, 16), Read(100, KIND_TCP, 1440, True)),
        ((1, 0x84, 60, 1440, 40, 16), Read(100, KIND_TCP, 1440, True)),
        ((1, 5, 48, 1200, 40, 6), Read(100, KIND_UDP, 1200, True)),
    ],
)
def test_header_that_the_kernel_gives_is_understood(
    monkeypatch: pytest.MonkeyPatch, given: tuple[int, ...], expected: Read
) -> None:
    device = FakeDevice(monkeypatch)
    device.given.append(struct.pack("=BBHHHH", *given) + b"\x60" * 100)
    into = memoryview(bytearray(1000))
    assert device.tun.read(into) == expected
    assert into[:101] == b"\x60" * 100 + b"\0"
    assert device.tun.read(into) is None


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (errno.EAGAIN, "tun: would block"),
        (errno.EIO, "tun: down"),
        (errno.EINVAL, "tun: refused"),
        (errno.ENOMEM, "tun: refused"),
        (errno.ENOBUFS, "tun: refused"),
    ],
)
def test_write_that_fails_is_counted(monkeypatch: pytest.MonkeyPatch, failure: int, reason: str) -> None:
    device = FakeDevice(monkeypatch)
    device.failure = failure
    assert device.tun.write([b"x"]) is False
    assert device.tun.write_partial([b"x"], 0, 0) is False
    assert device.tun.write_super([b"\x60"], KIND_TCP, 1, 0, 0) is False
    assert device.tun.drops == {reason: 3}


# With a device.


class Home:
    """A namespace with a TUN, addresses on it and a route to the other side."""

    def __init__(self, host: Host, tun: Tun, own: tuple[str, str]) -> None:
        self.host = host
        self.tun = tun
        self.buffer = memoryview(bytearray(65_535))
        for address in own:
            host.ip("addr", "add", address, "dev", tun.name, *(["nodad"] if ":" in address else []))
        # Without router solicitations and multicast reports only what a test sends comes out.
        host.run("sysctl", "-qw", f"net.ipv6.conf.{tun.name}.router_solicitations=0")
        host.ip("link", "set", tun.name, "up", "mtu", "1352")

    def read(self, wanted: Callable[[bytes], bool] = lambda packet: True) -> tuple[Read, bytes]:
        """The next packet that a test is interested in."""
        while True:
            ready, _, _ = select.select([self.tun], [], [], WAIT_S)
            assert ready, "nothing came"
            read = self.tun.read(self.buffer)
            if read is not None and wanted(bytes(self.buffer[: read.length])):
                return read, bytes(self.buffer[: read.length])

    def socket(self, kind: int, *, v4: bool = False) -> socket.socket:
        with inside_namespace(self.host.namespace):
            return socket.socket(socket.AF_INET if v4 else socket.AF_INET6, kind)


@contextmanager
def home(lab: Lab, name: str, number: int, **options: bool) -> Iterator[Home]:
    host = lab.host(name)
    with inside_namespace(host.namespace):
        tun = Tun("weft0", **options)
    try:
        yield Home(host, tun, (f"fd00::{number}/64", f"10.9.0.{number}/24"))
    finally:
        tun.close()


def is_of(protocol: int) -> Callable[[bytes], bool]:
    return lambda packet: len(packet) >= 40 and packets.upper(packet)[0] == protocol


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.mark.system
def test_kernel_gives_all_offloads_and_none_where_none_are_asked_for(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice, home(lab, "bob", 2, offloads=False) as bob:
        assert alice.tun.offloads == ALL
        assert (alice.tun.takes_tcp, alice.tun.takes_udp, alice.tun.takes_partial) == (True, True, True)
        assert bob.tun.offloads == []
        assert (bob.tun.takes_tcp, bob.tun.takes_udp, bob.tun.takes_partial) == (False, False, False)


@pytest.mark.system
@pytest.mark.parametrize("level", [1, 2])
def test_kernel_that_knows_less_gives_less(lab: Lab, monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    unknown = tuple((0x4000_0000, names) for _, names in tun_module._OFFLOADS[:level])
    monkeypatch.setattr(tun_module, "_OFFLOADS", (*unknown, *tun_module._OFFLOADS[level:]))
    with home(lab, "alice", 1) as alice:
        assert alice.tun.offloads == ALL[: {1: 4, 2: 2}[level]]
        assert alice.tun.takes_partial
        assert alice.tun.takes_tcp is (level == 1)
        assert not alice.tun.takes_udp


@pytest.mark.system
def test_name_is_as_asked_for_or_numbered_by_the_kernel(lab: Lab) -> None:
    with inside_namespace(lab.host("alice").namespace), ExitStack() as stack:
        names = []
        for asked in ("abcdefghijklmno", "weft%d", "weft%d"):
            tun = Tun(asked)
            stack.callback(tun.close)
            names.append(tun.name)
        assert names == ["abcdefghijklmno", "weft0", "weft1"]


@pytest.mark.system
def test_name_that_can_not_be_used_is_told_in_one_line(lab: Lab) -> None:
    with inside_namespace(lab.host("alice").namespace):
        first = Tun("weft0")
        with pytest.raises(TransportError, match=r"^can't make the interface weft0: another program uses it$"):
            Tun("weft0")
        for name in ("lo", "a/b", "a b", "."):
            with pytest.raises(TransportError) as caught:
                Tun(name)
            assert str(caught.value).startswith(f"can't make the interface {name}: ")
            assert "\n" not in str(caught.value)
        first.close()
        Tun("weft0").close()


@pytest.mark.system
def test_missing_permission_is_told_in_one_line(lab: Lab) -> None:
    with inside_namespace(lab.host("alice").namespace):
        descriptors = len(os.listdir("/proc/self/fd"))
        os.seteuid(65_534)
        try:
            with pytest.raises(PermissionError, match=r"^can't (open|make) .*; needs root or CAP_NET_ADMIN$"):
                Tun("weft0")
        finally:
            os.seteuid(0)
        assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.system
@pytest.mark.parametrize("offloads", [True, False])
def test_written_ping_is_answered(lab: Lab, offloads: bool) -> None:
    with home(lab, "alice", 1, offloads=offloads) as alice:
        for ends in ((THERE, HERE), (THERE_4, HERE_4)):
            ping = packets.echo(*ends, b"anybody there?")
            assert alice.tun.write([ping[:30], ping[30:]])
            protocol = packets.upper(ping)[0]
            read, pong = alice.read(lambda packet, protocol=protocol: is_of(protocol)(packet) and b"anybody" in packet)
            assert read == Read(len(ping), KIND_PACKET, 0, False)
            assert packets.is_sound(pong)


@pytest.mark.system
@pytest.mark.parametrize("v4", [True, False])
def test_written_partial_packet_arrives_complete_and_a_wrong_checksum_does_not(lab: Lab, v4: bool) -> None:
    with home(lab, "alice", 1) as alice:
        ends = (THERE_4, HERE_4) if v4 else (THERE, HERE)
        with alice.socket(socket.SOCK_DGRAM, v4=v4) as receiver:
            receiver.bind(("0.0.0.0" if v4 else "::", 7777))
            receiver.settimeout(WAIT_S)
            good, bad = (packets.udp(*ends, text, ports=(1, 7777)) for text in (b"good", b"evil"))
            at, offset = packets.partial_place(good)
            wrong = bad[: at + offset] + b"\1\1" + bad[at + offset + 2 :]
            assert alice.tun.write([wrong])
            assert alice.tun.write_partial([packets.as_partial(good)], at, offset)
            assert receiver.recv(100) == b"good"


@pytest.mark.system
def test_written_udp_super_packet_arrives_as_datagrams(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice, alice.socket(socket.SOCK_DGRAM) as receiver:
        receiver.bind(("::", 7777))
        receiver.settimeout(WAIT_S)
        payload = os.urandom(5000)
        packet = packets.as_partial(packets.udp(THERE, HERE, payload, ports=(1, 7777)))
        assert alice.tun.write_super([packet], KIND_UDP, 1200, 40, 48)
        assert [receiver.recv(9000) for _ in range(5)] == [payload[at : at + 1200] for at in range(0, 5000, 1200)]


@pytest.mark.system
def test_program_that_sends_udp_super_packets_gives_one_packet(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice, alice.socket(socket.SOCK_DGRAM) as sender:
        payload = os.urandom(5000)
        control = [(17, 103, struct.pack("=H", 1200))]
        sender.sendmsg([payload], control, 0, ("fd00::2", 7777))
        read, packet = alice.read(is_of(packets.UDP))
        assert read == Read(5048, KIND_UDP, 1200, True)
        assert packet[48:] == payload
        assert [each[48:] for each in packets.segments(packet, 1200)] == [
            payload[at : at + 1200] for at in range(0, 5000, 1200)
        ]


@pytest.mark.system
def test_interface_that_is_down_takes_nothing_and_says_so(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice:
        alice.host.ip("link", "set", "weft0", "down")
        assert alice.tun.write([packets.echo(THERE, HERE, b"x")]) is False
        assert alice.tun.drops == {"tun: down": 1}
        alice.host.ip("link", "set", "weft0", "up")
        assert alice.tun.write([packets.echo(THERE, HERE, b"x")]) is True


@pytest.mark.system
def test_kernel_that_refuses_a_header_is_counted(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice:
        packet = packets.as_partial(packets.tcp(THERE, HERE, bytes(3000)))
        assert alice.tun.write_super([packet], KIND_TCP, 0, 40, 60) is False
        assert alice.tun.write_partial([packet[:50]], 60_000, 16) is False
        assert alice.tun.write([b"\x10nothing"]) is False
        assert alice.tun.drops == {"tun: refused": 3}


@pytest.mark.system
def test_device_that_somebody_removed_raises_when_it_is_read(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice:
        alice.host.ip("link", "del", "weft0")
        with pytest.raises(OSError, match="File descriptor in bad state"):
            alice.tun.read(alice.buffer)
        assert alice.tun.write([b"\x60" + bytes(39)]) is False


@pytest.mark.system
def test_closed_device_is_gone(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice:
        alice.tun.close()
        alice.tun.close()
        assert alice.tun.fileno() == -1
        assert "weft0" not in alice.host.ip("link")
        with pytest.raises(OSError, match="Bad file descriptor"):
            alice.tun.read(alice.buffer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            alice.tun.write([b"x"])


def carry(source: Home, destination: Home, sizes: set[int]) -> None:
    """Take what one device gives to the other one, as it is."""
    while (read := source.tun.read(source.buffer)) is not None:
        packet = bytes(source.buffer[: read.length])
        sizes.add(read.length)
        if packet[0] >> 4 == 6 and packet[24] == 0xFF:
            continue
        if read.kind != KIND_PACKET:
            protocol, at = packets.upper(packet)
            head = at + ((packet[at + 12] >> 4) * 4 if protocol == packets.TCP else 8)
            assert destination.tun.write_super([packet], read.kind, read.segment, at, head)
        elif read.is_partial and destination.tun.takes_partial:
            assert destination.tun.write_partial([packet], *packets.partial_place(packet))
        else:
            assert destination.tun.write([packets.complete(packet) if read.is_partial else packet])


@pytest.mark.system
@pytest.mark.parametrize("v4", [True, False])
@pytest.mark.parametrize("levels", [(True, True), (False, False), (False, True)])
def test_stream_between_two_devices_arrives_byte_by_byte(lab: Lab, v4: bool, levels: tuple[bool, bool]) -> None:
    data = os.urandom(1_500_000)
    with (
        home(lab, "alice", 1, offloads=levels[0]) as alice,
        home(lab, "bob", 2, offloads=levels[1]) as bob,
        alice.socket(socket.SOCK_STREAM, v4=v4) as client,
        bob.socket(socket.SOCK_STREAM, v4=v4) as listener,
    ):
        listener.bind(("0.0.0.0" if v4 else "::", 7777))
        listener.listen()
        listener.setblocking(False)
        client.setblocking(False)
        client.connect_ex(("10.9.0.2" if v4 else "fd00::2", 7777))
        got = bytearray()
        sent = 0
        server: socket.socket | None = None
        sizes: set[int] = set()
        while len(got) < len(data):
            waiting = [alice.tun, bob.tun, server or listener]
            ready, _, _ = select.select(waiting, [client] if sent < len(data) else [], [], WAIT_S)
            assert ready, f"stands still at {len(got)}"
            carry(alice, bob, sizes)
            carry(bob, alice, set())
            if server is None and listener in ready:
                server, _ = listener.accept()
                server.setblocking(False)
            if server is not None and server in ready:
                got += server.recv(1 << 20)
            if server is not None and sent < len(data):
                sent += client.send(data[sent : sent + 200_000]) if _is_writable(client) else 0
        assert bytes(got) == data
        assert max(sizes) > 20_000 if levels[0] else max(sizes) <= 1352
        assert not alice.tun.drops
        assert not bob.tun.drops
        if server is not None:
            server.close()


def _is_writable(client: socket.socket) -> bool:
    return bool(select.select([], [client], [], 0)[1])


@pytest.mark.system
def test_checksum_behind_extension_headers_is_left_to_the_device_too(lab: Lab) -> None:
    with home(lab, "alice", 1) as alice, alice.socket(socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, b"\0\0\1\4" + bytes(4))
        client.connect_ex(("fd00::2", 7777))
        read, packet = alice.read(is_of(packets.TCP))
        assert packet[6] == 60
        assert read.is_partial
        assert packets.as_partial(packet) == packet
