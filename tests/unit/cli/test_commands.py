"""Each command against the real API: what it asks of the node, what it prints, how it ends."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest

from tests.unit.api.fake_engine import ID, KEY, FakeEngine, a_peer, serving_in_thread
from tests.unit.cli.terminal import Terminal
from weft.cli import handover, ping
from weft.engine.config import Config, Fc00Section
from weft.engine.status import Interface, LogLine, TaskStatus
from weft.errors import PeerError, TransportError, UsageError

ANSWERED = [
    ("info",),
    ("status",),
    ("peer", "list"),
    ("peer", "connect", "/ip4/192.0.2.1/udp/1312"),
    ("peer", "disconnect", "loom"),
    ("peer", "persist", "loom"),
    ("peer", "set", "loom", "--name", "heddle"),
    ("peer", "remove", "loom"),
    ("peer", "block", "loom"),
    ("peer", "unblock", "loom"),
    ("peer", "add-wireguard", KEY, "--name", "phone", "--allowed-ips", "10.0.0.2/32"),
    ("fc00", "start"),
    ("fc00", "stop"),
    ("fc00", "status"),
    ("fc00", "allow", "/tcp/80"),
    ("fc00", "deny", "/tcp/80"),
    ("fc00", "ports"),
    ("trace", "in", "loom", "/tcp/22"),
    ("trace", "out", "loom", "/tcp/80"),
    ("listener", "list"),
    ("listener", "start", "/ip4/0.0.0.0/udp/53"),
    ("transport", "list"),
    ("transport", "enable", "ip6"),
    ("transport", "disable", "ip6"),
    ("reload",),
    ("task", "list"),
    ("task", "restart", "udp"),
    ("ping", "-c", "1", "loom"),
]


@pytest.mark.parametrize("command", ANSWERED, ids=" ".join)
def test_command_prints_for_people_and_json_with_the_schema(
    weft: Terminal, node: FakeEngine, command: tuple[str, ...]
) -> None:
    people = weft(*command)
    assert (people.code, people.err) == (0, "")
    assert people.out.endswith("\n")
    assert not people.out.startswith("{")
    for machine in (weft("--json", *command), weft(*command, "--json")):
        assert (machine.code, machine.err) == (0, "")
        assert json.loads(machine.out)["schema"] == 1
        assert machine.out.count("\n") == 1


@pytest.mark.parametrize("command", ANSWERED, ids=" ".join)
def test_command_without_a_daemon_is_one_line_and_exit_1(weft: Terminal, command: tuple[str, ...]) -> None:
    seen = weft(*command)
    assert (seen.code, seen.out) == (1, "")
    assert seen.err == f"weft: no daemon answers at {weft.socket}; start it with `weft up`\n"


def test_info_gives_what_the_other_side_must_dial(weft: Terminal, node: FakeEngine) -> None:
    assert f"multiaddr   /ip4/192.0.2.9/udp/1312/p2p/{ID}\n" in weft("info").out
    told = json.loads(weft("info", "--json").out)
    assert set(told) >= {"schema", "id", "address", "wireguard_public_key", "multiaddrs"}


def test_status_is_one_aligned_line_a_peer(weft: Terminal, node: FakeEngine) -> None:
    node.fc00.interface = Interface(up=True, ifname="weft0", address="fc22::1", mtu=1352)
    node.peer_list = [
        a_peer(),
        a_peer("phone", kind="wireguard", addresses=["10.0.0.2/32"], state="connecting", rtt_ms=None, mode="packet"),
        a_peer(None, addresses=[], state="idle", endpoint=None, path="none", rtt_ms=None, tx_bytes=0, rx_bytes=2**42),
    ]
    assert weft("status").out.splitlines() == [
        "fc22::1      (this node)  weft       up weft0                  -        -           -           -",
        "fc11::1      loom         weft       up direct 192.0.2.1:1312  1.25 ms  tx 1.2 KiB  rx 5.3 MiB  burst",
        "10.0.0.2/32  phone        wireguard  connecting                -        tx 1.2 KiB  rx 5.3 MiB  packet",
        "-            -            weft       idle                      -        tx 0 B      rx 4.0 TiB  burst",
    ]


def test_status_says_what_is_missing(weft: Terminal, node: FakeEngine) -> None:
    node.peer_list = []
    node.tasks.list = lambda: [TaskStatus(name="udp", state="stopped", restarts=9)]
    assert weft("status").out.splitlines()[1:] == [
        "# task udp is stopped; `weft task restart udp` starts it",
        "# no interface, so programs can't use the network; `weft fc00 start` makes it",
        "# no peers yet; `weft peer connect MULTIADDR` calls one",
    ]


def test_peer_list_without_peers_says_how_to_get_one(weft: Terminal, node: FakeEngine) -> None:
    node.peer_list = []
    assert "weft peer connect" in weft("peer", "list").out


def test_connect_that_fails_says_the_reason(weft: Terminal, node: FakeEngine) -> None:
    node.fails["connect"] = TimeoutError("192.0.2.1:1312 did not answer within 10 s; is it up?")
    seen = weft("peer", "connect", "/ip4/192.0.2.1/udp/1312")
    assert (seen.code, seen.out) == (1, "")
    assert seen.err == "weft: 192.0.2.1:1312 did not answer within 10 s; is it up?\n"
    assert node.calls == [("connect", "/ip4/192.0.2.1/udp/1312", 10.0)]


@pytest.mark.parametrize(
    ("command", "fails", "raised", "code"),
    [
        (("peer", "connect", "/x"), "connect", UsageError("expected /ip4 at offset 0"), 2),
        (("peer", "disconnect", "x"), "disconnect", UsageError("no peer 'x'"), 2),
        (("ping", "x"), "ping", UsageError("no peer 'x'"), 2),
        (("fc00", "start"), "fc00_start", PermissionError("a TUN needs CAP_NET_ADMIN"), 1),
        (("fc00", "allow", "/sctp/1"), "fc00_allow", UsageError("/sctp/1: expected /tcp, /udp or /icmp"), 2),
        (("task", "restart", "x"), "restart_task", UsageError("no task 'x'"), 2),
        (("peer", "connect", "/x"), "connect", PeerError("evil \x1b[31m reason\nwith lines"), 1),
    ],
)
def test_error_of_the_node_is_one_line(
    weft: Terminal, node: FakeEngine, *, command: tuple[str, ...], fails: str, raised: Exception, code: int
) -> None:
    node.fails[fails] = raised
    seen = weft(*command)
    assert (seen.code, seen.out) == (code, "")
    assert seen.err.startswith("weft: ")
    assert seen.err.count("\n") == 1
    assert "\x1b" not in seen.err


def test_add_wireguard_takes_prefixes_in_both_spellings_and_the_key_from_a_file(
    weft: Terminal, node: FakeEngine
) -> None:
    psk = weft.directory / "psk"
    psk.write_text(KEY + "\n")
    seen = weft(
        *("peer", "add-wireguard", KEY, "--name", "hub", "--allowed-ips", "10.0.0.0/24, fd00::/64"),
        *("--allowed-ips", "10.1.0.0/24", "--endpoint", "192.0.2.1:51820", "--psk-file", str(psk)),
    )
    assert seen.out == "added hub with 10.0.0.0/24, fd00::/64, 10.1.0.0/24\n"
    prefixes = ["10.0.0.0/24", "fd00::/64", "10.1.0.0/24"]
    assert node.calls == [("add_wireguard", KEY, "hub", prefixes, "192.0.2.1:51820", KEY, None)]


def test_preshared_key_may_come_from_standard_input(
    weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(KEY.encode())))
    command = ("peer", "add-wireguard", KEY, "--name", "a", "--allowed-ips", "::/0", "--psk-file", "-")
    assert weft(*command).code == 0
    assert node.calls[0][5] == KEY


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [(None, 1, "No such file"), (b"\xff\xfe", 2, "no preshared key; `wg genpsk` makes one")],
)
def test_unreadable_preshared_key_is_one_line(
    weft: Terminal, node: FakeEngine, content: bytes | None, code: int, says: str
) -> None:
    psk = weft.directory / "psk"
    if content is not None:
        psk.write_bytes(content)
    seen = weft("peer", "add-wireguard", KEY, "--name", "a", "--allowed-ips", "::/0", "--psk-file", str(psk))
    assert seen.code == code
    assert str(psk) in seen.err
    assert says in seen.err
    assert seen.err.count("\n") == 1
    assert node.calls == []


def test_rules_go_in_one_call(weft: Terminal, node: FakeEngine) -> None:
    seen = weft("fc00", "allow", "/tcp/80", "/udp/0")
    assert node.calls == [("fc00_allow", ["/tcp/80", "/udp/0"])]
    assert seen.out.splitlines() == [
        "allow /icmp    from everybody",
        "allow /tcp/80  from everybody",
        "allow /udp/0   from everybody",
        "all else that comes in is rejected",
    ]
    assert weft("fc00", "deny", "/icmp", "/udp/0").out.startswith("allow /tcp/80  from everybody\nall")


def test_rules_for_one_peer_name_it(weft: Terminal, node: FakeEngine) -> None:
    node.fc00.rules = ["/icmp", f"/tcp/22/from/{KEY}", "/udp/53/from/somebody="]
    node.fc00.names = {KEY: "loom"}
    assert weft("fc00", "ports").out.splitlines() == [
        "allow /icmp    from everybody",
        "allow /tcp/22  from loom",
        "allow /udp/53  from somebody=",
        "all else that comes in is rejected",
    ]
    weft("fc00", "allow", "/tcp/80", "/icmp", "--from", "a/name")
    weft("fc00", "deny", "--from", KEY, "/tcp/22")
    assert node.calls == [
        ("fc00_allow", ["/tcp/80/from/a/name", "/icmp/from/a/name"]),
        ("fc00_deny", [f"/tcp/22/from/{KEY}"]),
    ]


def test_interface_can_be_named(weft: Terminal, node: FakeEngine) -> None:
    assert weft("fc00", "start", "--ifname", "weft7").out == "weft7 is up: fc22::1, MTU 1352, offloads tso4\n"
    assert weft("fc00", "stop").out == "no interface\n"


def test_existing_interface_is_asked_for_by_its_name(weft: Terminal, node: FakeEngine) -> None:
    assert weft("fc00", "start", "--existing", "tun7").code == 0
    assert node.calls == [("fc00_start", "tun7", "existing")]


def test_stack_is_asked_for(weft: Terminal, node: FakeEngine) -> None:
    seen = weft("fc00", "start", "--stack")
    assert seen.out == "the stack is up: fc22::1, MTU 1352, offloads tso4\n"
    assert node.calls == [("fc00_start_stack",)]
    assert "up the stack" in weft("status").out


def test_ports_of_a_stack_are_those_that_programs_listen_on(weft: Terminal, node: FakeEngine) -> None:
    weft("fc00", "start", "--stack")
    assert weft("fc00", "ports").out == (
        "open /tcp/80  to everybody\n"
        "open /icmp    to everybody\n"
        "all else that comes in is refused; the rules count with a TUN only\n"
    )


@pytest.fixture
def no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command may make no interface either."""

    def refuse(*arguments: object) -> None:
        raise PermissionError("nor may this command")

    monkeypatch.setattr(handover, "making", refuse)


@pytest.mark.usefixtures("no_rights")
@pytest.mark.parametrize("fails", [PermissionError("may not"), TransportError("can't open /dev/net/tun: no such file")])
def test_stack_is_taken_where_there_can_be_no_tun(weft: Terminal, node: FakeEngine, fails: Exception) -> None:
    node.fails["fc00_start"] = fails
    seen = weft("fc00", "start")
    assert (seen.code, seen.out) == (0, "the stack is up: fc22::1, MTU 1352, offloads tso4\n")
    assert seen.err == f"weft: no TUN: {fails}; the network is for programs that use weft.Node.attach()\n"


@pytest.mark.usefixtures("no_rights")
@pytest.mark.parametrize(
    "fails", [PermissionError("may not"), TransportError("no TUN here"), UsageError("it is taken")]
)
def test_stack_is_not_taken_if_a_tun_is_wanted(weft: Terminal, node: FakeEngine, fails: Exception) -> None:
    node.fails["fc00_start"] = fails
    node.settings.config = Config(fc00=Fc00Section(device="tun"))
    seen = weft("fc00", "start")
    assert seen.err == f"weft: {fails}\n"
    node.settings.config = Config()
    assert weft("fc00", "start", "--ifname", "weft7").err == f"weft: {fails}\n"
    assert not node.fc00.interface.up


@pytest.mark.parametrize("other", [("--ifname", "weft1"), ("--existing", "tun7"), ("--stack",)])
def test_interface_is_said_in_one_way(weft: Terminal, node: FakeEngine, other: tuple[str, ...]) -> None:
    seen = weft("fc00", "start", "--fd", "0", *other)
    assert (seen.code, seen.out) == (2, "")
    assert "four ways to say which interface" in seen.err
    assert node.calls == []


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "INTERVAL_S", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_ping_shows_the_path_and_a_summary(weft: Terminal, node: FakeEngine) -> None:
    seen = weft("ping", "loom", "-c", "3", "--size", "1000", "--timeout", "2")
    assert seen.code == 0
    assert seen.out.splitlines() == [
        *["pong from loom (fc11::1) via direct 192.0.2.1:1312 in 1.5 ms"] * 3,
        "3 sent, 3 received, 0 % lost, round trip min / mean / max 1.5 ms / 1.5 ms / 1.5 ms",
    ]
    assert node.calls == [("ping", "loom", 2.0, 1000)] * 3


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("raised", [PeerError("no answer from loom"), TimeoutError("no answer from loom")])
def test_ping_without_any_answer_is_exit_1(weft: Terminal, node: FakeEngine, raised: Exception) -> None:
    node.fails["ping"] = raised
    seen = weft("ping", "loom", "-c", "2")
    assert (seen.code, seen.err) == (1, "")
    assert seen.out.splitlines() == [
        *["no answer from loom"] * 2,
        "2 sent, 0 received, 100 % lost",
    ]
    machine = weft("ping", "loom", "-c", "1", "--json")
    assert (machine.code, machine.out) == (1, "")
    assert machine.err == "no answer from loom\n"


def test_interrupted_ping_still_sums_up(weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ping.time, "sleep", interrupt)
    seen = weft("ping", "loom")
    assert seen.code == 0
    assert seen.out.splitlines()[-1].startswith("1 sent, 1 received, 0 % lost")


def test_interrupted_ping_in_json_prints_nothing_else(
    weft: Terminal, node: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weft.cli.ping.time.sleep", interrupt)
    (line,) = weft("ping", "loom", "--json").out.splitlines()
    assert json.loads(line)["peer"]


def test_socket_elsewhere_is_used(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for args in (
        ("--dir", str(elsewhere), "--socket", str(weft.socket), "info"),
        ("info", "--dir", str(elsewhere), "--socket", str(weft.socket)),
    ):
        assert weft.bare(*args).code == 0


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("fc00", "start", "--ifname", "much-too-long-a-name"), "length <= 15 - at `$.ifname`"),
        (("ping", ""), "length >= 1 - at `$.peer`"),
        (("ping", "\udcff"), "encoding"),
    ],
)
def test_value_that_no_node_takes_is_wrong_usage(
    weft: Terminal, node: FakeEngine, command: tuple[str, ...], says: str
) -> None:
    seen = weft(*command)
    assert (seen.code, seen.out) == (2, "")
    assert says in seen.err
    assert seen.err.count("\n") == 1
    assert node.calls == []


def test_logs_shows_what_was_asked_for(weft: Terminal, node: FakeEngine) -> None:
    seen = weft("logs")
    assert (seen.code, seen.err) == (0, "")
    assert [line.partition(" ")[2].partition(" ")[2] for line in seen.out.splitlines()] == [
        "INFO weft.engine: the node starts",
        "ERROR weft.engine: task udp died",
    ]
    assert "starts" not in weft("logs", "--level", "error").out
    assert "starts" not in weft("logs", "-n", "1").out
    lines = [json.loads(line) for line in weft("logs", "-f", "--json").out.splitlines()]
    assert [(line["schema"], line["level"], line["text"]) for line in lines] == [
        (1, "info", "the node starts"),
        (1, "error", "task udp died"),
        (1, "warning", "and on it goes"),
    ]


def test_logged_text_moves_no_cursor(weft: Terminal, node: FakeEngine) -> None:
    node.logs.lines = [LogLine(number=1, at=0.0, level="info", logger="weft", text="a\x1b[2Jb\nc\rd")]
    assert weft("logs").out.endswith(" INFO weft: a�[2Jb\n    c�d\n")


LOG_FILES = {
    "text": (
        "2026-11-20 17:19:22,123 INFO weft.engine: the node starts\n"
        "2026-11-20 17:19:23,000 ERROR weft.engine: task udp died\n"
        "    Traceback (most recent call last):\n"
    ),
    "json": (
        '{"time":"2026-11-20T17:19:22.123Z","level":"info","logger":"weft.engine","message":"the node starts"}\n'
        '{"time":"2026-11-20T17:19:23.000Z","level":"error","logger":"weft.engine","message":"task udp died",'
        '"exception":"Traceback (most recent call last):"}\n'
    ),
}


@pytest.mark.parametrize("written", LOG_FILES)
def test_logs_without_a_daemon_come_from_the_file(weft: Terminal, written: str) -> None:
    (weft.directory / "weft.toml").write_text('[log]\nfile = "my.log"\n')
    (weft.directory / "my.log").write_text(LOG_FILES[written])
    seen = weft("logs", "--level", "warning")
    assert seen.code == 0
    assert seen.out.endswith(" ERROR weft.engine: task udp died\n    Traceback (most recent call last):\n")
    assert seen.err == (
        f"weft: no daemon answers at {weft.socket}; start it with `weft up`; this is what the last one wrote\n"
    )
    lines = [json.loads(line) for line in weft("logs", "--json").out.splitlines()]
    assert [line["level"] for line in lines] == ["info", "error"]
    assert lines[1]["at"] - lines[0]["at"] == pytest.approx(0.877)


def test_log_file_of_another_shape_is_shown_as_it_is(weft: Terminal) -> None:
    (weft.directory / "daemon.log").write_bytes(b"weft: odd \xff\n{broken\n2026-99-99 1 INFO a: b\n")
    assert weft("logs").out == "INFO weft: odd �\n    {broken\n    2026-99-99 1 INFO a: b\n"
    assert json.loads(weft("logs", "--json").out)["at"] is None


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_logged_text_of_an_ended_daemon_begins_no_line(weft: Terminal, separator: str) -> None:
    forged = f"odd{separator}2026-11-20 17:19:22,123 ERROR weft: forged"
    (weft.directory / "daemon.log").write_text(f"2026-11-20 17:19:22,123 INFO weft: {forged}\n", encoding="utf-8")
    line, end = weft("logs", "--json").out.split("\n")
    assert (json.loads(line)["text"], end) == (forged, "")


def test_logs_without_daemon_and_file_says_that_there_is_none(weft: Terminal) -> None:
    for command in (("logs",), ("logs", "-f")):
        seen = weft(*command)
        assert (seen.code, seen.out) == (1, "")
        assert seen.err == f"weft: no daemon answers at {weft.socket}; start it with `weft up`\n"


@pytest.mark.parametrize("peer", ["loom", ID, "fc11::1", KEY])
def test_wait_returns_when_the_peer_is_up(weft: Terminal, node: FakeEngine, peer: str) -> None:
    node.peer_list = [a_peer(state="connecting")]
    threading.Timer(0.3, lambda: node.peer_list.__setitem__(0, a_peer())).start()
    began = time.monotonic()
    seen = weft("wait", "--peer", peer, "--timeout", "20")
    assert (seen.code, seen.out, seen.err) == (0, f"{peer} is up\n", "")
    assert 0.2 < time.monotonic() - began < 10


def test_wait_without_a_peer_is_for_the_daemon(weft: Terminal) -> None:
    with serving_in_thread(weft.socket):
        assert weft("wait").out == "the daemon answers: fc22::1\n"
    seen = weft("wait", "--timeout", "0.2")
    assert (seen.code, seen.out) == (1, "")
    assert seen.err.startswith("weft: no daemon answers at ")


@pytest.mark.parametrize(
    ("peer", "says"),
    [("loom", "loom is not up"), ("nobody", "no peer 'nobody'; `weft peer list` shows those that there are")],
)
def test_wait_in_vain_is_one_line(weft: Terminal, node: FakeEngine, peer: str, says: str) -> None:
    node.peer_list = [a_peer(state="idle")]
    seen = weft("wait", "--peer", peer, "--timeout", "0")
    assert (seen.code, seen.out, seen.err) == (1, "", f"weft: {says}\n")
