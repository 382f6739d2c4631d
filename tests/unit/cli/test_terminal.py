"""What a person sees at a real terminal: tables, colours, help, errors, live views."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from tests.unit.api.fake_engine import FakeEngine, a_peer
from tests.unit.cli.pseudo_terminal import WEFT, PseudoTerminal, at_terminal
from tests.unit.cli.terminal import Terminal
from weft.api.client import Client
from weft.api.v0 import node as node_api
from weft.engine.status import TaskStatus

ADDRESS = "fc89:54a1:b598:365f:357:d6a:b108:db7b"


@pytest.fixture
def here(weft: Terminal, node: FakeEngine) -> tuple[str, str]:
    node.peer_list = [a_peer(addresses=[ADDRESS]), a_peer("phone", state="connecting", addresses=["10.0.0.2/32"])]
    return ("--dir", str(weft.directory))


def test_table_at_a_terminal_is_coloured_and_has_a_header(here: tuple[str, str]) -> None:
    code, seen = at_terminal(*here, "peer", "list", columns=200)
    assert code == 0
    assert "\x1b[1mNAME" in seen
    assert "\x1b[32mup\x1b[0m" in seen
    assert "\x1b[33mconnecting\x1b[0m" in seen
    assert re.search(rf"^loom .* {ADDRESS}$", click.unstyle(seen), re.MULTILINE)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_without_colours_gets_none(here: tuple[str, str], environment: dict[str, str]) -> None:
    code, seen = at_terminal(*here, "peer", "list", columns=200, **environment)
    assert code == 0
    assert "\x1b" not in seen
    assert ADDRESS in seen


@pytest.mark.parametrize("columns", [20, 60, 80, 100])
def test_narrow_terminal_loses_nothing_and_tears_no_address(here: tuple[str, str], columns: int) -> None:
    _, wide = at_terminal(*here, "status", columns=300)
    code, seen = at_terminal(*here, "status", columns=columns, NO_COLOR="1")
    assert code == 0
    assert ADDRESS in seen
    assert "192.0.2.1:1312" in seen
    assert sorted(seen.split()) == sorted(click.unstyle(wide).split())
    if columns >= 100:
        assert all(len(line) <= columns for line in seen.splitlines() if not line.startswith("#"))


def test_names_in_any_script_stay_in_their_column(here: tuple[str, str], node: FakeEngine) -> None:
    node.peer_list = [a_peer("織機"), a_peer("loom")]
    _, seen = at_terminal(*here, "status", columns=200, NO_COLOR="1")
    wide, narrow = (line for line in seen.splitlines() if "weft" in line and "direct" in line)
    assert wide.index("weft") == narrow.index("weft") - 2


def test_table_in_a_pipe_is_plain_and_loads_no_layout(here: tuple[str, str]) -> None:
    program = (
        "import sys; from weft.cli import main; code = main(sys.argv[1:]);"
        "names = ('rich', 'aiohttp', 'asyncio', 'cryptography', 'pyroute2');"
        "sys.exit(code or [name for name in names if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, *here, "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"FORCE_COLOR": "1"})
    assert (done.returncode, done.stderr) == (1, "[]\n")
    assert "\x1b" not in done.stdout
    assert len({line.index(" direct ") for line in done.stdout.splitlines() if " direct " in line}) == 1


def test_table_at_a_terminal_loads_no_daemon_and_no_event_loop(here: tuple[str, str]) -> None:
    program = (
        "import sys; from weft.cli import main; main(sys.argv[1:]);"
        "print([name for name in ('rich', 'aiohttp', 'asyncio', 'cryptography') if name in sys.modules])"
    )
    for columns, loaded in ((60, "['rich']"), (200, "[]")):
        with PseudoTerminal((sys.executable, "-c", program, *here, "status"), columns=columns) as terminal:
            terminal.end()
            assert terminal.seen.endswith(f"\n{loaded}\n")


def test_help_fits_the_terminal(here: tuple[str, str]) -> None:
    for words in ((), ("peer", "add-wireguard"), ("status",)):
        code, seen = at_terminal(*words, "--help", columns=80)
        assert code == 0
        before_examples, _, examples = seen.partition("Examples:")
        assert examples
        assert all(len(line) <= 80 for line in before_examples.splitlines())
        assert "\x1b" not in seen


def test_error_at_a_terminal_is_one_line(here: tuple[str, str]) -> None:
    assert at_terminal("stauts") == (
        2,
        "weft: no command `weft stauts`, did you mean `weft status`?; see `weft --help`\n",
    )
    assert at_terminal(*here, "status", "--jsn") == (
        2,
        "weft: no option `--jsn` of `weft status`, did you mean `--json`?; see `weft status --help`\n",
    )
    code, seen = at_terminal(*here, "peer", "disconnect", "nobody")
    assert (code, seen) == (2, "weft: no peer 'nobody'\n")


def test_status_watch_redraws_the_terminal_when_something_happens(here: tuple[str, str], node: FakeEngine) -> None:
    with PseudoTerminal((*WEFT, *here, "status", "--watch", "--active"), columns=160) as terminal:
        first = terminal.wait_for(r"\x1b\[H(?s:.*?)\x1b\[J")[0]
        assert ADDRESS in first
        assert "phone" not in first
        node.peer_list = [a_peer("heddle", addresses=[ADDRESS])]
        assert "heddle" in terminal.wait_for(r"\x1b\[H(?s:[^H]*?)heddle(?s:.*?)\x1b\[J")[0]
        terminal.send("\x03")
        assert terminal.end() == 130


def test_status_watch_shows_what_a_small_terminal_has_room_for(here: tuple[str, str], node: FakeEngine) -> None:
    node.peer_list = [a_peer(f"peer{number}") for number in range(20)]
    with PseudoTerminal((*WEFT, *here, "status", "--watch"), lines=10) as terminal:
        drawn = terminal.wait_for(r"\x1b\[H(?s:.*?)\x1b\[J")[0]
        assert drawn.count("\n") == 9
        assert "… 14 more lines" in drawn


def test_status_watch_in_a_pipe_tells_each_change_once(here: tuple[str, str], node: FakeEngine) -> None:
    with subprocess.Popen([*WEFT, *here, "status", "--watch", "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert '"name":"loom"' in process.stdout.readline()
        node.tasks.list = lambda: [TaskStatus(name="udp", state="stopped", restarts=9)]
        assert '"stopped"' in process.stdout.readline()
        process.kill()


def test_status_watch_ends_with_the_daemon(here: tuple[str, str], weft: Terminal) -> None:
    with PseudoTerminal((*WEFT, *here, "status", "--watch"), columns=160) as terminal:
        terminal.wait_for(r"\x1b\[J")
        Client(weft.socket).call(node_api.STOP)
        assert terminal.end() == 1
        assert terminal.seen.startswith("weft: no daemon answers at ")


def test_logs_follow_at_a_terminal_has_colours(here: tuple[str, str], node: FakeEngine) -> None:
    code, seen = at_terminal(*here, "logs", "-f")
    assert code == 0
    assert " \x1b[31mERROR\x1b[0m weft.engine: task udp died\n" in seen
    assert " \x1b[33mWARNING\x1b[0m weft.io: and on it goes\nweft: the daemon has ended\n" in seen
