"""What a shell offers when Tab is pressed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.api.fake_engine import ID, FakeEngine, a_peer
from tests.unit.cli.pseudo_terminal import PseudoTerminal
from tests.unit.cli.terminal import Terminal


def offered(line: str) -> list[str]:
    """What is offered for the last word of a line."""
    position = len(line.split(" ")) - 1
    environment = os.environ | {"_WEFT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(position)}
    done = subprocess.run([sys.executable, "-m", "weft"], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [entry.partition(",")[2] for entry in done.stdout.splitlines() if entry]


def test_commands_and_options_are_offered() -> None:
    assert offered("weft pe") == ["peer"]
    assert set(offered("weft fc00 st")) == {"start", "stop", "status"}
    assert "--ifname" in offered("weft fc00 start --")
    assert offered("weft completion z") == ["zsh"]


def test_names_are_offered_as_the_daemon_tells_them(weft: Terminal, node: FakeEngine) -> None:
    node.peer_list = [a_peer(), a_peer("loft"), a_peer("phone"), a_peer(None)]
    node.fc00.rules = ["/icmp", "/tcp/22", "/tcp/80"]
    start = f"weft --dir {weft.directory}"
    assert offered(f"{start} ping lo") == ["loom", "loft"]
    assert offered(f"{start} peer disconnect ") == ["loom", "loft", "phone", ID]
    assert offered(f"weft peer disconnect --dir {weft.directory} ph") == ["phone"]
    assert offered(f"{start} fc00 deny /tcp/22 /tcp") == ["/tcp/80"]
    assert offered(f"{start} task restart ") == ["udp"]


@pytest.mark.parametrize("name", ["$(reboot)", "two words", "a;b", "`id`", "it's", "~root", "-rf", "a\\b", "!1"])
def test_name_that_a_shell_would_take_for_something_else_is_not_offered(
    weft: Terminal, node: FakeEngine, name: str
) -> None:
    node.peer_list = [a_peer(name), a_peer("bücher-2.example")]
    assert offered(f"weft --dir {weft.directory} peer remove ") == ["bücher-2.example"]


def test_without_a_daemon_nothing_is_offered_and_nothing_said(tmp_path: Path) -> None:
    assert offered(f"weft --dir {tmp_path} ping ") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_tab_completes_in_bash(weft: Terminal, node: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "weft"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m weft "$@"\n')
    program.chmod(0o755)
    (tmp_path / "rc").write_text('PS1="ready> "; bind "set bell-style none"; eval "$(weft completion bash)"\n')
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "WEFT_DIR": str(weft.directory)}
    with PseudoTerminal(("bash", "--noprofile", "--rcfile", str(tmp_path / "rc"), "-i"), **environment) as bash:
        bash.wait_for("ready> ")
        bash.send("weft stat\t")
        bash.wait_for("weft status ")
        bash.send("\x15weft ping lo\t")
        bash.wait_for("weft ping loom ")
        bash.send("-c 1\n")
        bash.wait_for(r"1 sent, 1 received")
