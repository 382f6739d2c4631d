"""A link between two real interfaces, in user space: for system tests and benchmarks where the kernel has no netem.

What one TAP or TUN device gives is written to the other, through the same faults as in simulated networks. With
offloads on both sides super-packets cross whole, virtio header and all, at several Gbit/s; without, each packet by
itself, so that faults hit single datagrams.

On an asyncio loop: `Link(Device.make("eth0", "alice"), Device.make("eth0", "bob"))`. As a process of its own:

    python -m weft.testing.link eth0@alice eth0@bob latency=10ms loss=1%

It says a line of JSON when it carries packets. Each line on its standard input changes faults while it runs
(`loss=5%`, `to_right rate=100M`, or nothing) and is answered with a line of JSON: what passed so far and what did not.
It ends with its standard input.

Not done here: interfaces' addresses and state; IP: a packet over the MTU vanishes, as it does on Ethernet.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import selectors
import sys
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Self

from weft.errors import UsageError, WeftError
from weft.testing.clock import S
from weft.testing.device import ETHERNET_HEADER_BYTES, MAX_FRAME_BYTES, VNET_HEADER_BYTES, Device
from weft.testing.faults import FaultInjector, Faults, parse_faults
from weft.testing.trace import Fate

FRAMES_PER_WAKE_UP = 64
"""Then the other direction gets its turn."""
IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""What one direction may hold because of latency and rate: 50 ms at 10 Gbit/s."""

_GSO_TYPE, _GSO_SIZE, _CSUM_START = 1, 4, 6
_GSO_UDP = 5
_UDP_HEADER_BYTES = 8
_TCP_DATA_OFFSET = 12


@dataclass(slots=True)
class Carried:
    """What one direction has carried.

    Attributes:
        packets: frames that passed; a super-packet is one.
        bytes: IP bytes of them.
        refused: frames that the receiving interface did not take, for instance because it is down.
    """

    packets: int = 0
    bytes: int = 0
    refused: int = 0


class Direction:
    """One way over a link.

    Attributes:
        carried: what has passed.
    """

    def __init__(self, source: Device, destination: Device, faults: Faults, random: Random) -> None:
        self.carried = Carried()
        self._source = source
        self._destination = destination
        self._injector = FaultInjector(faults, random)
        self._link_header = ETHERNET_HEADER_BYTES if source.mode == "tap" else 0
        self._headers = self._link_header + (VNET_HEADER_BYTES if source.has_vnet_header else 0)
        self._buffer = memoryview(bytearray(MAX_FRAME_BYTES))
        self._waiting: list[tuple[int, int, bytes]] = []
        self._waiting_bytes = 0
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(source.fileno(), self._handle_readable)

    @property
    def faults(self) -> Faults:
        """What happens to packets; assign to change it for those that come from now on."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector.faults = faults

    @property
    def fates(self) -> Counter[Fate]:
        """Frames by fate; `IN_FLIGHT` are those that passed."""
        return self._injector.fates

    def close(self) -> None:
        """Carry no more, and forget what is on the way."""
        self._loop.remove_reader(self._source.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _handle_readable(self) -> None:
        source = self._source.fileno()
        for _ in range(FRAMES_PER_WAKE_UP):
            try:
                length = os.readv(source, [self._buffer])
            except BlockingIOError:
                return
            self._receive(self._buffer[:length])

    def _receive(self, frame: memoryview) -> None:
        now = time.monotonic_ns()
        size = len(frame) - self._headers
        passage = self._injector.carry(size, now, largest=self._largest(frame, size))
        for arrival in passage.arrivals:
            if arrival <= now and not self._waiting:
                self._deliver(frame)
            elif self._waiting_bytes + len(frame) > IN_FLIGHT_BYTES:
                self.fates[Fate.QUEUE_FULL] += 1
            else:
                self._keep(arrival, frame)

    def _largest(self, frame: memoryview, size: int) -> int:
        # The size of a segment: a super-packet is cut to that before it meets a real wire.
        if not self._source.has_vnet_header or not frame[_GSO_TYPE]:
            return size
        transport = int.from_bytes(frame[_CSUM_START : _CSUM_START + 2], sys.byteorder)
        header = _UDP_HEADER_BYTES
        if frame[_GSO_TYPE] != _GSO_UDP:
            header = (frame[VNET_HEADER_BYTES + transport + _TCP_DATA_OFFSET] >> 4) * 4
        segment = int.from_bytes(frame[_GSO_SIZE : _GSO_SIZE + 2], sys.byteorder)
        return transport - self._link_header + header + segment

    def _keep(self, arrival: int, frame: memoryview) -> None:
        self._number += 1
        heapq.heappush(self._waiting, (arrival, self._number, bytes(frame)))
        self._waiting_bytes += len(frame)
        if self._waiting[0][1] == self._number:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._waiting[0][0] / S, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer = None
        now = time.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, frame = heapq.heappop(self._waiting)
            self._waiting_bytes -= len(frame)
            self._deliver(frame)
        if self._waiting:
            self._arm()

    def _deliver(self, frame: bytes | memoryview) -> None:
        try:
            os.write(self._destination.fileno(), frame)
        except OSError:
            self.carried.refused += 1
            return
        self.carried.packets += 1
        self.carried.bytes += len(frame) - self._headers


class Link:
    """Two devices joined, on the running asyncio loop; a context manager.

    Args:
        left: one device.
        right: the other; of the same mode, and with a virtio header if the left one has it.
        faults: of both directions at first.
        seed: the same seed draws the same chances; what real programs send is theirs.

    Attributes:
        to_left: the way to the left device: `to_left.faults`, `to_left.fates`, `to_left.carried`.
        to_right: the way to the right one.

    Raises:
        UsageError: the devices do not match.
    """

    def __init__(self, left: Device, right: Device, faults: Faults = Faults(), *, seed: int = 0) -> None:  # noqa: B008
        if (left.mode, left.has_vnet_header) != (right.mode, right.has_vnet_header):
            raise UsageError(f"{left.ifname} and {right.ifname} differ in mode or offloads")
        self.to_right = Direction(left, right, faults, Random(f"{seed} to_right"))
        self.to_left = Direction(right, left, faults, Random(f"{seed} to_left"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Carry no more; the devices stay open."""
        self.to_left.close()
        self.to_right.close()

    def figures(self) -> dict[str, dict[str, int]]:
        """What each direction has carried, and frames that did not pass by fate."""
        return {name: _figures(direction) for name, direction in self._directions().items()}

    def obey(self, line: str) -> None:
        """Change faults as a line of words tells; see `parse_faults`.

        Args:
            line: words such as `loss=1%`; with `to_left` or `to_right` in front they change that direction only.

        Raises:
            UsageError: a word that is none; nothing is changed.
        """
        directions = self._directions()
        words = line.split()
        chosen = [directions[words.pop(0)]] if words and words[0] in directions else list(directions.values())
        changed = [parse_faults(words, direction.faults) for direction in chosen]
        for direction, faults in zip(chosen, changed, strict=True):
            direction.faults = faults

    def _directions(self) -> dict[str, Direction]:
        return {"to_left": self.to_left, "to_right": self.to_right}


def _figures(direction: Direction) -> dict[str, int]:
    carried = direction.carried
    fates = {str(fate): count for fate, count in direction.fates.items() if fate is not Fate.IN_FLIGHT}
    return {"packets": carried.packets, "bytes": carried.bytes, "refused": carried.refused, **fates}


def _device(text: str, arguments: argparse.Namespace) -> Device:
    if text.startswith("fd:"):
        return Device(int(text.removeprefix("fd:")))
    ifname, _, namespace = text.partition("@")
    return Device.make(ifname, namespace, mode=arguments.mode, offloads=not arguments.single)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m weft.testing.link", description="Join two interfaces by a link with faults."
    )
    where = "interface to make, as NAME or NAME@NAMESPACE; or fd:N, a device that is passed open"
    parser.add_argument("left", help=where)
    parser.add_argument("right", help=where)
    parser.add_argument("faults", nargs="*", help="such as latency=10ms loss=1%% rate=100M mtu=1400")
    parser.add_argument("--mode", choices=["tap", "tun"], default="tap", help="Ethernet frames or IP packets")
    parser.add_argument("--single", action="store_true", help="no offloads: packets cross one by one")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_intermixed_args(arguments)


async def _serve(arguments: argparse.Namespace) -> None:
    faults = parse_faults(arguments.faults)
    left, right = (_device(text, arguments) for text in (arguments.left, arguments.right))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    with Link(left, right, faults, seed=arguments.seed) as link:
        _say({"interfaces": [left.ifname, right.ifname]})
        while line := await lines.readline():
            try:
                link.obey(line.decode())
                _say(link.figures())
            except UsageError as error:
                _say({"error": str(error)})
    left.close()
    right.close()


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 - its answers


def main(arguments: list[str] | None = None) -> int:
    """Run a link as a process; the exit code is 1 if it can't be made."""
    # select() waits to the microsecond, epoll to the millisecond only: what a latency of 1 ms needs.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        try:
            runner.run(_serve(_arguments(arguments)))
        except WeftError as error:
            print(error, file=sys.stderr)  # noqa: T201 - one line for whoever started it
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
