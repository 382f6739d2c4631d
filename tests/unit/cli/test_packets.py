"""`weft trace` and `weft capture` against the real API: what they ask, print and write."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from scapy.layers.inet import IP
from scapy.utils import rdpcap

from tests.unit.api.fake_engine import A_PACKET, FakeEngine
from tests.unit.cli.terminal import Terminal
from weft.cli import main
from weft.engine.observed import Captured, Packet, TraceStep
from weft.errors import UsageError


def test_trace_in_shows_each_step_the_verdict_and_the_answer(weft: Terminal, node: FakeEngine) -> None:
    assert weft("trace", "in", "loom", "/tcp/22").out.splitlines() == [
        "fc11::1.49152 > fc22::1.22: tcp [S], length 0",
        "source  fc11::1 belongs to loom",
        "rule    /icmp: no",
        "reject: no rule allows it; the peer is told",
        "answer: fc22::1.22 > fc11::1.49152: tcp [R.], length 0",
    ]
    assert node.calls == [("trace_in", Packet(what="/tcp/22"), "loom")]


def test_trace_shows_of_many_rules_only_those_that_fit(
    weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [
        TraceStep(stage="rule", text=f"/tcp/{port}: {'fits' if port == 22 else 'another port'}") for port in range(99)
    ]
    traced = replace(node.packets.trace_in(Packet(what="/tcp/22"), "loom"), steps=rules)
    monkeypatch.setattr(node.packets, "trace_in", lambda packet, peer: traced)
    assert weft("trace", "in", "loom", "/tcp/22").out.splitlines()[1:3] == [
        "rule  /tcp/22: fits",
        "rule  98 others do not fit; `--json` has them all",
    ]
    assert weft("trace", "in", "loom", "/tcp/22", "--json").out.count("another port") == 98


def test_trace_names_the_peer_whom_a_rule_is_for(
    weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = "A" * 43 + "=", "B" * 43 + "="
    rules = [f"/tcp/22/from/{key}: fits", f"/tcp/22/from/{other}: another peer"]
    steps = [TraceStep(stage="rule", text=text) for text in rules]
    told = replace(
        node.packets.trace_in(Packet(what="/tcp/22"), "loom"),
        steps=steps,
        verdict="accept",
        reason=None,
        rule=f"/tcp/22/from/{key}",
        peers={key: "loom"},
    )
    monkeypatch.setattr(node.packets, "trace_in", lambda packet, peer: told)
    assert weft("trace", "in", "loom", "/tcp/22").out.splitlines()[1:4] == [
        "rule  /tcp/22 from loom: fits",
        f"rule  {rules[1]}",
        "accept: it comes in, by /tcp/22 from loom",
    ]


def test_trace_passes_all_that_is_said_of_the_packet(weft: Terminal, node: FakeEngine) -> None:
    given = ("--source", "10.0.0.7", "--source-port", "99", "--flags", "S.", "--size", "1300")
    assert weft("trace", "in", "loom", "/tcp/22", *given, "--destination", "10.0.0.1").code == 0
    assert weft("trace", "out", "10.0.0.7", "/udp/53", *given).code == 0
    said = {"source": "10.0.0.7", "source_port": 99, "flags": "S.", "size": 1300}
    assert node.calls == [
        ("trace_in", Packet(what="/tcp/22", destination="10.0.0.1", **said), "loom"),
        ("trace_out", Packet(what="/udp/53", destination="10.0.0.7", **said)),
    ]


def test_trace_of_what_is_no_packet_is_one_line(weft: Terminal, node: FakeEngine) -> None:
    node.fails["trace_out"] = UsageError("no peer 'x'; `weft peer list` shows those that there are")
    seen = weft("trace", "out", "x", "/tcp/22")
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.startswith("weft: no peer 'x'")
    seen = weft("trace", "in", "loom", "/tcp/22", "--flags", "XYZ")
    assert (seen.code, seen.err.count("\n")) == (2, 1)


def test_capture_is_one_line_a_packet_and_a_summary(weft: Terminal, node: FakeEngine) -> None:
    refused = replace(A_PACKET, direction="in", peer=None, dropped="not_allowed", segment=1448)
    node.packets.told = [Captured(packets=[A_PACKET, refused], missed=0), Captured(packets=[A_PACKET], missed=7)]
    seen = weft("capture", "--peer", "loom", "--snap", "96", "--dropped")
    first, second, third = seen.out.splitlines()
    assert first.endswith(".123456 out loom  10.0.0.1.40000 > 10.0.0.2.22: tcp [S], length 0")
    assert second.endswith(
        " in  -  10.0.0.1.40000 > 10.0.0.2.22: tcp [S], length 0 in segments of 1448 [dropped: not_allowed]"
    )
    assert third == first
    assert seen.err == "weft: 3 packets, 7 more were missed; `--snap 128` takes less time\n"
    assert node.calls == [("capture", "loom", 96, True)]


def test_capture_ends_after_as_many_packets_as_were_asked_for(weft: Terminal, node: FakeEngine) -> None:
    node.packets.told = [Captured(packets=[A_PACKET] * 3, missed=0)] * 3
    seen = weft("capture", "-c", "4")
    assert len(seen.out.splitlines()) == 4
    assert seen.err == "weft: 4 packets\n"


def test_capture_file_is_read_by_others_and_private(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    node.packets.told = [Captured(packets=[A_PACKET, replace(A_PACKET, length=1500)], missed=0)]
    seen = weft("capture", "-w", str(file))
    assert (seen.out, seen.err) == ("", "weft: 2 packets\n")
    assert file.stat().st_mode & 0o777 == 0o600
    first, second = rdpcap(str(file))
    assert first[IP].dst == "10.0.0.2"
    assert bytes(first) == A_PACKET.data
    assert int(first.time * 1_000_000_000) == A_PACKET.time_ns
    assert second.wirelen == 1500


def test_capture_file_that_was_there_is_private_from_now_on(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(b"older, and longer than what comes" * 9)
    file.chmod(0o644)
    node.packets.told = [Captured(packets=[A_PACKET], missed=0)]
    assert weft("capture", "-w", str(file)).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(rdpcap(str(file))) == 1


def test_capture_file_may_be_a_device(weft: Terminal, node: FakeEngine) -> None:
    before = os.stat(os.devnull).st_mode
    assert weft("capture", "-w", os.devnull).code == 0
    assert os.stat(os.devnull).st_mode == before


def test_capture_writes_to_standard_output(weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, write_through=True))
    assert main(("--dir", str(weft.directory), "capture", "-w", "-")) == 0
    (packet,) = rdpcap(io.BytesIO(out.getvalue()))
    assert bytes(packet) == A_PACKET.data


def test_capture_in_json_is_one_object_a_line(weft: Terminal, node: FakeEngine) -> None:
    (line,) = weft("capture", "--json").out.splitlines()
    told = json.loads(line)
    assert (told["schema"], told["missed"], told["packets"][0]["peer"]) == (1, 0, "loom")


def test_capture_of_nobody_is_one_line_and_makes_no_file(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    node.fails["capture"] = UsageError("no peer 'x'")
    seen = weft("capture", "--peer", "x", "-w", str(tmp_path / "x.pcap"))
    assert (seen.code, seen.err) == (2, "weft: no peer 'x'\n")
    assert not (tmp_path / "x.pcap").exists()


def test_file_that_can_not_be_written_is_one_line(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    seen = weft("capture", "-w", str(tmp_path / "no" / "x.pcap"))
    assert (seen.code, seen.out) == (1, "")
    assert "No such file" in seen.err
