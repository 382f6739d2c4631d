"""A program that talks over TCP and UDP as it is told, on the sockets of the kernel or on the stack behind a TUN.

    python -m tests.system.speaker                                        kernel
    python -m tests.system.speaker stack0 10.78.0.2/24 fd78::2/64         stack; makes the interface stack0

It says `{"ready": ...}`, and answers each line of JSON on its standard input by one; see the methods `do_*`. It listens
on port 7000, TCP and UDP, both versions. A client of it says in its first line what it wants:

    up                 sends until its end, and gets how many bytes that were and their hash
    down SIZE          gets so many bytes, and the end
    both SIZE          sends until its end, and at the same time gets so many bytes; then how many came, and their hash
    slow SECONDS       as `up`, but nothing is read for so long at first
    reset SIZE         gets so many bytes, and a reset
    still              gets nothing, and nobody says goodbye

All bytes are those of one pattern, so that each side knows what must come.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from ipaddress import ip_address, ip_interface
from random import Random
from typing import Any

from weft.api.streams import Streams
from weft.burst.records import KIND_PACKET, KIND_TCP, KIND_UDP, super_packet_fault, transport_of
from weft.burst.split import split
from weft.engine.driver import Driver
from weft.io.device import MAX_PACKET_BYTES
from weft.io.tun import Tun
from weft.packet.checksum import FIELD, complete, write_pseudo_header_sum
from weft.packet.protocols import TCP
from weft.stack.failure import StackError
from weft.stack.host import Host
from weft.stack.outgoing import Outgoing
from weft.stack.ping import Ping

PORT = 7000
PACKETS_IN_A_TURN = 64
CHUNK_BYTES = 128 * 1024
PATTERN = memoryview(Random(1312).randbytes(1_048_573 + CHUNK_BYTES))
PERIOD = 1_048_573
CLOCK = time.monotonic_ns
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class StackMachine:
    """The stack behind a TUN of its own."""

    def __init__(self, ifname: str, addresses: Sequence[str], *, offloads: bool = True) -> None:
        self.tun = Tun(ifname, offloads=offloads)
        self.host = Host(os.urandom)
        for address in addresses:
            self.host.addresses.add(ip_interface(address))
        for network in ("0.0.0.0/0", "::/0"):
            self.host.routes.add(network_of(network))
        self.driver = Driver(self.host, CLOCK, self._transmit)
        self._addresses = [str(ip_interface(address).ip) for address in addresses]
        self.streams = Streams(self.driver, self._resolve, lambda _: None)
        self._buffer = memoryview(bytearray(MAX_PACKET_BYTES))
        asyncio.get_running_loop().add_reader(self.tun, self._receive)

    def open_connection(self, address: str, port: int) -> Awaitable[Pair]:
        return self.streams.open_connection(address, port)

    async def listen(self, handle: Callable[..., Awaitable[None]], datagrams: type[asyncio.DatagramProtocol]) -> None:
        await self.streams.start_server(handle, None, PORT, backlog=2000)
        for address in self._addresses:
            await self.streams.create_datagram_endpoint(datagrams, (address, PORT))

    def open_datagrams(self, protocol: Any, address: str, port: int) -> Awaitable[Any]:
        return self.streams.create_datagram_endpoint(protocol, None, (address, port))

    async def ping(self, address: str, size: int) -> float | None:
        """Seconds until the answer."""
        ping = self.host.icmp.ping(ip_address(address).packed, CLOCK(), data=bytes(PATTERN[:size]))
        done = asyncio.Event()
        ping.user = EventUser(done)
        self.driver.wake()
        await done.wait()
        assert isinstance(ping, Ping)
        return None if ping.reply_ns is None else ping.reply_ns / 1e9

    def reset(self, writer: asyncio.StreamWriter) -> None:
        transport: Any = writer.transport
        transport._connection.abort(CLOCK())
        self.driver.wake()

    def report(self) -> dict[str, Any]:
        tcp = self.host.tcp
        return {"drops": dict(self.host.drops), "connections": len(tcp.connections), "refused": dict(self.tun.drops)}

    def _receive(self) -> None:
        now = CLOCK()
        for _ in range(PACKETS_IN_A_TURN):
            read = self.tun.read(self._buffer)
            if read is None:
                break
            length, kind, segment, is_partial = read.length, read.kind, read.segment, read.is_partial
            packet = self._buffer[:length]
            if kind != KIND_PACKET and super_packet_fault(packet, kind, segment) is not None:
                layout = transport_of(packet)
                assert layout is not None
                for single in split(packet, layout[1], segment, 1):
                    self.host.receive(memoryview(single), now)
            else:
                self.host.receive(packet, now, segment=segment, is_partial=is_partial)
        self.driver.wake()

    def _transmit(self) -> bool:
        for _ in range(PACKETS_IN_A_TURN):
            outgoing = self.host.next_packet(CLOCK())
            if outgoing is None:
                return False
            self._send(outgoing)
        return True

    def _send(self, outgoing: Outgoing) -> None:
        parts, segment, is_partial = outgoing
        if not is_partial:
            self.tun.write(parts)
            return
        packet = bytearray().join(parts)
        layout = transport_of(memoryview(packet))
        assert layout is not None
        protocol, transport = layout
        if segment and not self.tun.takes_tcp:
            for single in split(memoryview(packet), transport, segment, 1):
                self.tun.write([single])
        elif not self.tun.takes_partial:
            complete(packet, transport, protocol)
            self.tun.write([packet])
        else:
            write_pseudo_header_sum(packet, transport, protocol)
            if not segment:
                self.tun.write_partial([packet], transport, FIELD[protocol])
            else:
                headers = transport + ((packet[transport + 12] >> 4) * 4 if protocol == TCP else 8)
                kind = KIND_TCP if protocol == TCP else KIND_UDP
                self.tun.write_super([packet], kind, segment, transport, headers)

    async def _resolve(self, name: str, _family: int) -> Sequence[bytes]:
        raise socket.gaierror(socket.EAI_NONAME, name)


class KernelMachine:
    """The kernel of the namespace in which this runs."""

    def open_connection(self, address: str, port: int) -> Awaitable[Pair]:
        return asyncio.open_connection(address, port)

    async def listen(self, handle: Callable[..., Awaitable[None]], datagrams: type[asyncio.DatagramProtocol]) -> None:
        await asyncio.start_server(handle, None, PORT, backlog=2000)
        for address in ("0.0.0.0", "::"):
            with socket_of(address) as bound:
                kept = bound.dup()
            await asyncio.get_running_loop().create_datagram_endpoint(datagrams, sock=kept)

    def open_datagrams(self, protocol: Any, address: str, port: int) -> Awaitable[Any]:
        return asyncio.get_running_loop().create_datagram_endpoint(protocol, remote_addr=(address, port))

    async def ping(self, address: str, size: int) -> float | None:
        raise NotImplementedError("there is a program for that")

    def reset(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # it has ended already
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def report(self) -> dict[str, Any]:
        return {}


class Server:
    """Does what clients ask for."""

    def __init__(self, machine: StackMachine | KernelMachine) -> None:
        self.machine = machine
        self.open: set[asyncio.StreamWriter] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            await self._serve(reader, writer)
        except OSError as error:
            print(json.dumps({"server": repr(error)}), file=sys.stderr, flush=True)
            writer.close()
        finally:
            self.open.discard(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wish, *words = (await reader.readline()).decode().split() or ["still"]
        if wish == "still":
            with suppress(OSError):
                await reader.read(1)
            writer.close()
            return
        if wish in {"up", "slow"}:
            if wish == "slow":
                await asyncio.sleep(float(words[0]))
            writer.write(said(*await take(reader)))
        elif wish in {"down", "reset"}:
            await give(writer, int(words[0]), closes=wish == "down")
            if wish == "reset":
                self.machine.reset(writer)
                return
        elif wish == "both":
            (size, digest), _ = await asyncio.gather(take(reader), give(writer, int(words[0]), closes=False))
            writer.write(said(size, digest))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram by itself."""

    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)

    def error_received(self, exc: Exception) -> None:
        print(json.dumps({"echo": repr(exc)}), file=sys.stderr, flush=True)


class Asker(asyncio.DatagramProtocol):
    """Waits for one answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


class Client:
    """Asks servers for what it is told to ask for; an error is part of the answer."""

    def __init__(self, machine: StackMachine | KernelMachine, server: Server) -> None:
        self.machine = machine
        self.server = server
        self.waiting: list[asyncio.StreamWriter] = []

    async def do_transfer(
        self, address: str, wish: str, size: int = 0, count: int = 1, seconds: float = 0, patience_s: float = 60
    ) -> dict[str, Any]:
        """Some transfers at once: how many were right, the errors of the others, and the seconds that all took."""
        began = time.monotonic()
        one = {"up": self._up, "slow": self._up, "down": self._down, "both": self._both, "turns": self._turns}[wish]
        tasks = [asyncio.wait_for(one(address, wish, size, seconds), patience_s) for _ in range(count)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        errors = sorted({repr(outcome) for outcome in outcomes if outcome is not None})
        return {"right": outcomes.count(None), "errors": errors, "seconds": time.monotonic() - began}

    async def _up(self, address: str, wish: str, size: int, seconds: float) -> None:
        reader, writer = await self.machine.open_connection(address, PORT)
        writer.write(f"{wish} {seconds}\n".encode())
        await give(writer, size)
        # Half-closed now; the other direction still goes.
        assert await reader.read() == said(size, digest(size))
        writer.close()
        await writer.wait_closed()

    async def _down(self, address: str, _wish: str, size: int, seconds: float) -> None:
        reader, writer = await self.machine.open_connection(address, PORT)
        writer.write(f"down {size}\n".encode())
        await asyncio.sleep(seconds)
        assert await take(reader) == (size, digest(size))
        writer.close()
        await writer.wait_closed()

    async def _both(self, address: str, _wish: str, size: int, _seconds: float) -> None:
        reader, writer = await self.machine.open_connection(address, PORT)
        writer.write(f"both {size}\n".encode())

        async def receive() -> tuple[int, str]:
            got = await take(reader, size)
            assert await reader.read() == said(size, digest(size))
            return got

        got, _ = await asyncio.gather(receive(), give(writer, size))
        assert got == (size, digest(size))
        writer.close()
        await writer.wait_closed()

    async def _turns(self, address: str, _wish: str, size: int, seconds: float) -> None:
        """Requests and responses, one connection each, for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self._up(address, "up", size, 0)

    async def do_reset(self, address: str, size: int = 0) -> dict[str, Any]:
        """What a client sees whose server resets."""
        reader, writer = await self.machine.open_connection(address, PORT)
        writer.write(f"reset {size}\n".encode())
        try:
            while await reader.read(CHUNK_BYTES):
                pass
            return {"error": "end"}
        except OSError as error:
            return {"error": type(error).__name__}
        finally:
            writer.close()

    async def do_connect(self, address: str, port: int = PORT, patience_s: float = 10) -> dict[str, Any]:
        """What a client sees that connects, and says nothing."""
        try:
            _, writer = await asyncio.wait_for(self.machine.open_connection(address, port), patience_s)
        except OSError as error:
            return {"error": type(error).__name__, "errno": error.errno}
        self.machine.reset(writer)
        return {"error": None}

    async def do_keep_alive(self, address: str, seconds: float) -> dict[str, Any]:
        """Hold a connection on which nobody says anything: what becomes of it within a time."""
        reader, writer = await self.machine.open_connection(address, PORT)
        writer.write(b"still\n")
        await asyncio.sleep(0.2)
        end = writer.get_extra_info("socket")
        for name, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
            end.setsockopt(socket.IPPROTO_TCP, name, value)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        began = time.monotonic()
        self.waiting.append(writer)
        try:
            await asyncio.wait_for(reader.read(1), seconds)
        except OSError as error:
            return {"error": type(error).__name__, "seconds": time.monotonic() - began}
        finally:
            self.machine.reset(writer)
        return {"error": "end"}

    async def do_reset_all(self) -> dict[str, Any]:
        """Reset what clients have open here; what they have reset themselves may not be known here."""
        for writer in self.server.open:
            self.machine.reset(writer)
        return {"count": len(self.server.open)}

    async def do_udp(self, address: str, size: int, port: int = PORT, patience_s: float = 5) -> dict[str, Any]:
        """Ask by a datagram."""
        transport, asker = await self.machine.open_datagrams(Asker, address, port)
        data = bytes(PATTERN[:size])
        transport.sendto(data)
        try:
            return {"error": None if await asyncio.wait_for(asker.answer, patience_s) == data else "other bytes"}
        except OSError as error:
            return {"error": type(error).__name__}
        finally:
            transport.close()

    async def do_ping(self, address: str, size: int = 56) -> dict[str, Any]:
        """Ask by an echo request."""
        try:
            return {"seconds": await self.machine.ping(address, size)}
        except StackError as error:
            return {"error": str(error)}

    async def do_report(self) -> dict[str, Any]:
        """What the machine counts."""
        return self.machine.report()


class EventUser:
    """Sets an event when something happened to a socket."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def handle_event(self) -> None:
        self._event.set()


async def give(writer: asyncio.StreamWriter, size: int, *, closes: bool = True) -> None:
    """Write so many bytes of the pattern, and the end."""
    at = 0
    while at < size:
        start = at % PERIOD
        length = min(CHUNK_BYTES, size - at)
        writer.write(bytes(PATTERN[start : start + length]))
        await writer.drain()
        at += length
    if closes:
        writer.write_eof()


async def take(reader: asyncio.StreamReader, size: int | None = None) -> tuple[int, str]:
    """Read until the end, or so many bytes: how many came, and their hash."""
    total, digested = 0, sha256()
    while size is None or total < size:
        chunk = await reader.read(CHUNK_BYTES if size is None else min(CHUNK_BYTES, size - total))
        if not chunk:
            break
        digested.update(chunk)
        total += len(chunk)
    return total, digested.hexdigest()


def digest(size: int) -> str:
    """The hash of so many bytes of the pattern."""
    digested, at = sha256(), 0
    while at < size:
        start = at % PERIOD
        length = min(CHUNK_BYTES, size - at)
        digested.update(PATTERN[start : start + length])
        at += length
    return digested.hexdigest()


def said(size: int, hashed: str) -> bytes:
    return f"{size} {hashed}\n".encode()


def network_of(text: str) -> Any:
    from ipaddress import ip_network

    return ip_network(text)


def socket_of(address: str) -> socket.socket:
    """A UDP socket bound to the port of this program, of one version only."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if made.family is socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((address, PORT))
    made.setblocking(False)
    return made


async def main(arguments: list[str]) -> None:
    machine: StackMachine | KernelMachine
    if arguments:
        machine = StackMachine(arguments[0], arguments[1:], offloads="WEFT_SINGLE" not in os.environ)
    else:
        machine = KernelMachine()
    server = Server(machine)
    await machine.listen(server.handle, Echo)
    client = Client(machine, server)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    while line := await lines.readline():
        wanted = json.loads(line)
        number, verb = wanted.pop("number"), wanted.pop("do")
        task = asyncio.create_task(answer(number, getattr(client, f"do_{verb}")(**wanted)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


tasks: set[asyncio.Task[None]] = set()


async def answer(number: int, doing: Awaitable[dict[str, Any]]) -> None:
    try:
        said = await doing
    except Exception as error:
        said = {"exception": repr(error)}
    print(json.dumps({"number": number, **said}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
