"""`weft send` and `weft receive` of users without rights, of whom each may be killed in the middle; and a full disk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.system.lab import Lab
from tests.system.node import connected_pair
from tests.system.process import Process
from tests.system.sandbox import STATE, USER
from tests.system.test_rootless import RootlessDaemon
from tests.system.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SIZE = 24_000_000
DATA = Random("disk").randbytes(SIZE)


class Desk:
    """Alice sends to bob; each has a daemon with the stack, and files in its directory."""

    def __init__(self, lab: Lab) -> None:
        hosts = lab.host("alice"), lab.host("bob")
        cable = lab.veth(*hosts)
        self.alice, self.bob = (RootlessDaemon(lab, host, host.name) for host in hosts)
        self.alice.weft("peer", "connect", self.bob.node.multiaddr(cable.right), "--name", "bob")
        self.bob.weft("peer", "set", self.alice.node.address, "--name", "alice")
        (self.alice.directory / "disk.img").write_bytes(DATA)
        self.there = self.bob.directory / "there"

    def clear(self) -> None:
        subprocess.run(["rm", "-rf", str(self.there)], check=True)
        self.there.mkdir()
        os.chown(self.there, USER, USER)

    def send(self, *names: str) -> Process:
        places = [str(STATE / name) for name in names]
        return self.alice.begin("send", *places, "bob", "--json")

    def receive(self, *options: str) -> Process:
        process = self.bob.begin("receive", "--from", "alice", str(STATE / "there"), "--json", *options)
        process.wait_for("receiving on port 1313")
        return process

    def part(self) -> int:
        """How much of a file has come so far."""
        return max((path.stat().st_size for path in self.there.glob("*.part")), default=0)


@pytest.fixture(scope="module")
def module_desk() -> Iterator[Desk]:
    with Lab() as lab:
        yield Desk(lab)


@pytest.fixture
def desk(module_desk: Desk) -> Desk:
    module_desk.clear()
    return module_desk


def told_by(process: Process) -> dict[str, object]:
    """The last line that it says, when it has ended well."""
    assert process.popen.wait(60) == 0, process.output()
    told = json.loads(process.output().splitlines()[-1])
    assert isinstance(told, dict)
    return told


def test_sender_that_is_killed_goes_on_with_the_same_command(desk: Desk) -> None:
    receiving = desk.receive()
    sending = desk.send("disk.img")
    until(lambda: desk.part() > SIZE // 4, "a part has come")
    sending.popen.kill()
    said = receiving.wait_for("waiting for it to be sent again")
    assert re.search(r"alice: it broke off after \d+ of 24000000 bytes: ", said)
    came = desk.part()
    assert not (desk.there / "disk.img").exists()
    sent, received = told_by(desk.send("disk.img")), told_by(receiving)
    assert sent["resumed_from_bytes"] == received["resumed_from_bytes"] == came
    assert [path.name for path in desk.there.iterdir()] == ["disk.img"]
    assert (desk.there / "disk.img").read_bytes() == DATA


def test_receiver_that_is_killed_goes_on_with_the_same_commands(desk: Desk) -> None:
    receiving = desk.receive()
    sending = desk.send("disk.img")
    until(lambda: desk.part() > SIZE // 4, "a part has come")
    receiving.popen.kill()
    assert sending.popen.wait(60) == 1
    assert re.fullmatch(
        r"weft: bob: it broke off after \d+ of 24000000 bytes: .*; the same again goes on from there\n",
        sending.output(),
    )
    came = desk.part()
    receiving = desk.receive()
    sent, received = told_by(desk.send("disk.img")), told_by(receiving)
    assert sent["resumed_from_bytes"] == received["resumed_from_bytes"] == came
    assert (desk.there / "disk.img").read_bytes() == DATA


def test_folder_goes_on_after_the_sender_was_killed_in_it(desk: Desk) -> None:
    folder = desk.alice.directory / "folder"
    for number in range(40):
        path = folder / str(number % 4) / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Random(number).randbytes(500_000))
    receiving = desk.receive()
    sending = desk.send("folder")
    until(lambda: sum(1 for _ in desk.there.glob("folder/*/file*")) > 10, "some files have come")
    sending.popen.kill()
    receiving.wait_for("waiting for it to be sent again")
    sent, received = told_by(desk.send("folder")), told_by(receiving)
    assert (sent["unchanged"], sent["left_out"]) == (received["unchanged"], []) != (0, [])
    assert desk.bob.host.outcome("diff", "-r", str(folder), str(desk.there / "folder")) == (0, "", "")


def test_daemon_that_is_killed_ends_both_and_they_go_on_when_it_is_back(desk: Desk) -> None:
    receiving = desk.receive()
    sending = desk.send("disk.img")
    until(lambda: desk.part() > SIZE // 4, "a part has come")
    desk.bob.node.kill()
    assert receiving.popen.wait(60) == 1
    assert "weft: the network has ended: its daemon or its interface went down\n" in receiving.output()
    came = desk.part()
    desk.bob.start()
    assert sending.popen.wait(60) == 1
    receiving = desk.receive()
    sent, received = told_by(desk.send("disk.img")), told_by(receiving)
    assert sent["resumed_from_bytes"] == received["resumed_from_bytes"] == came
    assert (desk.there / "disk.img").read_bytes() == DATA


def test_interrupt_of_the_receiver_is_told_to_the_sender(desk: Desk) -> None:
    receiving = desk.receive()
    sending = desk.send("disk.img")
    until(lambda: desk.part() > SIZE // 4, "a part has come")
    assert receiving.stop(signal.SIGINT) == 130
    assert sending.popen.wait(60) == 1
    assert sending.output() == "weft: bob: it was ended there; send it again, and it goes on from there\n"


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_disk_and_a_firewall_are_one_line_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(DATA)
    with connected_pair() as pair, small_disk(tmp_path / "small", "8M") as small:
        pair.alice.name_peer(pair.bob, "bob")
        receive = ("receive", "--from", pair.alice.id, str(small))
        receiving = pair.bob.start(*receive)
        receiving.wait_for("receiving on port")
        sent = pair.alice.outcome("send", str(tmp_path / "disk.img"), "bob")
        assert (sent.code, sent.out) == (1, "")
        assert sent.err == "weft: bob: it can't be written there: no space left on device\n"
        assert receiving.popen.wait(30) == 1
        (part,) = small.iterdir()
        assert receiving.output().splitlines()[1:] == [f"weft: {part.name}: No space left on device"]
        assert DATA.startswith(part.read_bytes())

        # More room, and it goes on from there.
        subprocess.run(["mount", "-o", "remount,size=64M", str(small)], check=True)
        receiving = pair.bob.start(*receive)
        receiving.wait_for("receiving on port")
        sent = pair.alice.outcome("send", str(tmp_path / "disk.img"), "bob", "--json")
        assert 0 < json.loads(sent.out)["resumed_from_bytes"] <= 8 << 20
        assert (small / "disk.img").read_bytes() == DATA

        pair.bob.weft("fc00", "deny", "/tcp/0")
        sent = pair.alice.outcome("send", str(tmp_path / "disk.img"), "bob")
        assert (sent.code, sent.out) == (1, "")
        assert sent.err.endswith("and `weft fc00 allow /tcp/1313` if its firewall lets nobody in\n")
