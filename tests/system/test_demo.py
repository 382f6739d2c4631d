"""`make demo`: it shows what it promises, checks it, fails when something is not true, and leaves nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TEN_LINES = re.sub(r"\n+", "\n  ", (EXAMPLES / "ten_lines.py").read_text().partition("import weft\n")[2])
"""As the demo shows them, each behind two spaces."""
TYPED_WITHOUT_RIGHTS = [
    "alice$ weft up",
    "bob$ weft up",
    "alice$ weft peer",
    "bob$ weft serve",
    "alice$ weft fetch",
    "bob$ weft ssh-server",
    "alice$ weft ssh",
    "bob$ weft receive",
    "alice$ weft send",
    "alice$ weft down",
    "bob$ weft down",
]
DONE = "Everything above was checked, and nothing is left of it.\n"
PLAIN_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
"""A process with the id of a plain user and no capability; for the files of this tree it stays who it was."""

pytestmark = [pytest.mark.system("unshare", "nsenter", "ss", "setpriv"), pytest.mark.timeout(180)]


ONLY = {
    "daemons": [
        ("__main__.py", "        show_ten_lines()\n", ""),
        ("__main__.py", "show_daemons() or show_machines(namespaces)", "show_daemons()"),
        ("daemons.py", "    show_tls(alice, bob)\n    show_ssh(alice, bob)\n", ""),
    ],
    "machines": [
        ("__main__.py", "        show_ten_lines()\n", ""),
        ("__main__.py", "show_daemons() or show_machines(namespaces)", "show_machines(namespaces)"),
    ],
}
"""How the demo differs in which a part comes at once; file, text, text instead."""


@pytest.fixture(scope="module")
def only(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Demos that are one part each."""
    demos = {}
    for part, changes in ONLY.items():
        examples = tmp_path_factory.mktemp(part) / "examples"
        shutil.copytree(EXAMPLES, examples)
        demos[part] = examples / "demo"
        for name, old, new in changes:
            text = (demos[part] / name).read_text()
            assert text.count(old) == 1
            (demos[part] / name).write_text(text.replace(old, new))
    return demos


def run(
    tmp_path: Path, demo: Path = EXAMPLES / "demo", *, prefix: Sequence[str] = (), path: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, str(demo)],
        env=os.environ | {"TMPDIR": str(tmp_path), "PATH": path},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=tmp_path,
    )


def left(tmp_path: Path) -> list[str]:
    """What a demo with this directory for its files has not taken away: files, and processes that know of them."""
    left = [path.name for path in tmp_path.glob("weft-demo-*")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"{tmp_path}/weft-demo-" in command:
                left.append(command)
    return left


def shows_ten_lines(output: str) -> bool:
    return (
        TEN_LINES.strip() in output
        and re.search(r"^you\$ python .*\n  hello from bob$", output, re.MULTILINE) is not None
    )


def shows_bar(output: str) -> bool:
    return re.search(r"^  film.mkv ━+ ([\d.]+)/\1 MB ", output, re.MULTILINE) is not None


def commands_of(output: str) -> list[str]:
    return [" ".join(line.split()[:3]) for line in output.splitlines() if re.match(r"(alice|bob)\$ ", line)]


def programs(tmp_path: Path, names: Sequence[str]) -> Path:
    """A directory that has these programs and no others."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found
        (directory / name).symlink_to(found)
    return directory


def test_demo_as_root_shows_every_step_and_leaves_nothing(tmp_path: Path) -> None:
    demo = run(tmp_path)
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout + demo.stderr
    assert shows_ten_lines(demo.stdout)
    assert shows_bar(demo.stdout)
    assert commands_of(demo.stdout) == [
        *TYPED_WITHOUT_RIGHTS,
        "alice$ weft up",
        "bob$ weft up",
        "bob$ weft info",
        "alice$ weft peer",
        "alice$ ping -c",
        "bob$ weft fc00",
        "alice$ ping -c",
        "alice$ weft ping",
        "bob$ python3 -m",
        "alice$ curl --silent",
        "bob$ tail -n",
        "bob$ iperf3 -s",
        "alice$ iperf3 -c",
        "alice$ weft status",
        "bob$ weft status",
        "alice$ weft down",
        "bob$ weft down",
    ]
    assert re.search(r"^  \d+\.\d\d Gbit/s through the tunnel$", demo.stdout, re.MULTILINE)
    assert demo.stdout.endswith(DONE)
    assert left(tmp_path) == []


def test_demo_of_a_plain_user_without_curl_and_iperf3_uses_programs_of_its_own(
    tmp_path: Path, only: dict[str, Path]
) -> None:
    needed = ("unshare", "nsenter", "ip", "ss", "ping", "sleep", "tail")
    demo = run(tmp_path, only["machines"], prefix=PLAIN_USER, path=str(programs(tmp_path, needed)))
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout + demo.stderr
    assert "curl" not in demo.stdout
    assert "iperf3" not in demo.stdout
    assert re.search(r"^  \d+\.\d\d Gbit/s through the tunnel$", demo.stdout, re.MULTILINE)
    assert demo.stdout.endswith(DONE)
    assert left(tmp_path) == []


def test_demo_fails_when_a_shown_value_is_not_true(tmp_path: Path, only: dict[str, Path]) -> None:
    liar = tmp_path / "bin" / "curl"
    liar.parent.mkdir()
    liar.write_text("#!/bin/sh\necho hello over the network, 0123456789abcdef\n")
    liar.chmod(0o755)
    demo = run(tmp_path, only["machines"], path=f"{liar.parent}{os.pathsep}{os.environ['PATH']}")
    assert demo.returncode == 1
    assert "  hello over the network, 0123456789abcdef\n" in demo.stdout
    assert re.fullmatch(r"demo: `curl .*` showed no line of the form .*\n", demo.stderr)
    assert DONE not in demo.stdout
    assert left(tmp_path) == []


def test_demo_fails_when_a_shown_line_is_not_checked(tmp_path: Path, only: dict[str, Path]) -> None:
    chatty = tmp_path / "bin" / "ping"
    chatty.parent.mkdir()
    chatty.write_text(f'#!/bin/sh\necho one more line\nexec {shutil.which("ping")} "$@"\n')
    chatty.chmod(0o755)
    demo = run(tmp_path, only["machines"], path=f"{chatty.parent}{os.pathsep}{os.environ['PATH']}")
    assert demo.returncode == 1
    assert re.fullmatch(r"demo: nobody checked what `ping .*` showed: 'one more line'\n", demo.stderr)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("part", "text", "number", "code"),
    [
        ("daemons", "bob$ weft up", signal.SIGINT, 130),
        ("daemons", "bob$ weft receive", signal.SIGTERM, 143),
        ("machines", "bob$ weft info", signal.SIGINT, 130),
    ],
)
def test_demo_interrupted_leaves_nothing(
    tmp_path: Path, only: dict[str, Path], part: str, text: str, number: signal.Signals, code: int
) -> None:
    demo = start_until(tmp_path, only[part], text)
    demo.send_signal(number)
    assert demo.wait(20) == code
    demo.communicate()
    assert left(tmp_path) == []


@pytest.mark.parametrize(("part", "text"), [("daemons", "bob$ weft receive"), ("machines", "bob$ weft info")])
def test_demo_killed_leaves_no_process(tmp_path: Path, only: dict[str, Path], part: str, text: str) -> None:
    demo = start_until(tmp_path, only[part], text)
    demo.kill()
    demo.communicate()
    deadline = time.monotonic() + 10
    while left(tmp_path)[1:] and time.monotonic() < deadline:
        time.sleep(0.05)
    # Only its directory is there: nobody is left to remove it.
    assert len(left(tmp_path)) == 1


def start_until(tmp_path: Path, demo: Path, text: str) -> subprocess.Popen[str]:
    """Start a demo, and return when it has shown a text."""
    started = subprocess.Popen(
        [sys.executable, str(demo)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout
    for line in started.stdout:
        if line.startswith(text):
            return started
    raise AssertionError(started.communicate()[1])


def test_demo_without_any_right_shows_two_parts_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    lock = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -all --inh-caps -all "$@"'
    demo = run(tmp_path, prefix=["unshare", "--user", "--map-root-user", "sh", "-c", lock, "sh"])
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout + demo.stderr
    assert shows_ten_lines(demo.stdout)
    assert shows_bar(demo.stdout)
    assert commands_of(demo.stdout) == TYPED_WITHOUT_RIGHTS
    left_out = "# Two machines with a daemon and an interface each are left out: they need root, or user namespaces, "
    assert left_out in demo.stdout
    assert demo.stdout.endswith(DONE)
    assert left(tmp_path) == []


def test_demo_without_a_program_that_it_needs_says_so_in_one_line(tmp_path: Path) -> None:
    demo = run(tmp_path, path=str(programs(tmp_path, ("unshare", "ip", "setpriv"))))
    assert demo.returncode == 1
    assert demo.stdout == ""
    assert demo.stderr == "demo: needs nsenter, ss, ping in the PATH\n"


def test_demo_fails_when_the_ten_lines_say_something_else(tmp_path: Path) -> None:
    liar = tmp_path / "bin" / "setpriv"
    liar.parent.mkdir()
    liar.write_text("#!/bin/sh\necho hello from carol\n")
    liar.chmod(0o755)
    demo = run(tmp_path, path=f"{liar.parent}{os.pathsep}{os.environ['PATH']}")
    assert demo.returncode == 1
    assert re.fullmatch(r"demo: `python .*ten_lines.py` showed no line of the form hello from bob\n", demo.stderr)
    assert DONE not in demo.stdout
