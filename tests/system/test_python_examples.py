"""The examples in Python, run by a user who has no rights at all.

He has an environment that the system's own Python made, where it is the version that weft is tested with; neither root,
nor a capability, nor a TUN.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = "65534"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
SETPRIV = [
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--no-new-privs",
    "--bounding-set=-all",
]

pytestmark = [pytest.mark.system("setpriv"), pytest.mark.timeout(180)]


class User:
    """Somebody without rights, and an environment with weft."""

    def __init__(self, home: Path, python: Path) -> None:
        self.home = home
        self.python = python

    def command(self, *words: str) -> list[str]:
        return [*SETPRIV, str(self.python), *words]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONWARNINGS": "error", "PYTHONUTF8": "1"}

    def run(self, *words: str, code: int = 0) -> str:
        """What a program says."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, (done.stdout.decode() + done.stderr.decode())[-4000:]
        return (done.stdout if code == 0 else done.stderr).decode()

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A program while the block lasts; then it is interrupted, and says nothing about that."""
        with subprocess.Popen(
            self.command(*words),
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
                process.send_signal(signal.SIGINT)
                assert (process.wait(30), read(process.stderr)) == (0, "")
            finally:
                process.kill()


def read(stream: IO[str] | None, lines: int | None = None) -> str:
    """The next lines of what a program says, or all the rest."""
    assert stream
    return stream.read() if lines is None else "".join(stream.readline() for _ in range(lines))


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    # Not below the directory of pytest, which is root's own.
    home = Path(tempfile.mkdtemp(prefix="weft-examples-"))
    home.chmod(0o755)
    try:
        shutil.copytree(ROOT / "examples", home / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        # With its bytecode, which he can't write.
        shutil.copytree(ROOT / "src", home / "src")
        yield User(home, make_environment(home))
    finally:
        shutil.rmtree(home)


def make_environment(home: Path) -> Path:
    """An environment whose Python anybody may run, with weft and what it needs."""
    for base in (f"/usr/bin/{VERSION}", f"/usr/local/bin/{VERSION}", os.path.realpath(sys.executable)):
        if subprocess.run([*SETPRIV, base, "-c", ""], capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip(f"needs a {VERSION} that everybody may run, such as the system's")
    subprocess.run([base, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    packages = home / "venv" / "lib" / VERSION / "site-packages"
    (packages / "weft.pth").write_text(f"{home / 'src'}\n{sysconfig.get_path('purelib')}\n")
    python = home / "venv" / "bin" / "python"
    tried = subprocess.run([*SETPRIV, str(python), "-c", "import aiohttp"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs packages that everybody may read: {tried.stderr.splitlines()[-1]}")
    return python


def place_of(process: subprocess.Popen[str]) -> str:
    """What a program says first: where it is."""
    line = read(process.stdout, 1).strip()
    assert line.startswith("/ip"), line + read(process.stderr)
    return line


def test_user_has_no_rights(user: User) -> None:
    status = user.run("-c", "print(open('/proc/self/status').read())")
    assert re.search(rf"^Uid:(\s+{NOBODY}){{4}}$", status, re.MULTILINE)
    assert re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\s+(\w+)", status, re.MULTILINE) == ["0" * 16] * 4
    assert user.run("-c", "import weft; print(weft.__file__)") == f"{user.home}/src/weft/__init__.py\n"
    assert "PermissionError" in user.run("-c", "open('/dev/net/tun', 'rb+')", code=1) or not has_open_tun()


def has_open_tun() -> bool:
    """Whether everybody may open the device, which by itself gives nobody an interface."""
    return not os.stat("/dev/net/tun").st_mode & 0o006


def test_every_example_is_run_here_or_elsewhere() -> None:
    elsewhere = {"throughput.py"}  # by test_demo.py, as is demo/
    here = {"blocking.py", "chat.py", "echo.py", "file_server.py", "ten_lines.py", "test_chat.py"}
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == here | elsewhere


def test_ten_lines(user: User) -> None:
    assert user.run("examples/ten_lines.py") == "hello from bob\n"
    text = (ROOT / "examples" / "ten_lines.py").read_text().partition("import weft\n")[2]
    assert len([line for line in text.splitlines() if line]) == 10


def test_echo(user: User) -> None:
    with user.running("examples/echo.py") as server:
        multiaddr = place_of(server)
        assert user.run("examples/echo.py", multiaddr, "hello", "bob") == "hello bob\n"
        assert re.fullmatch(r"fc[0-9a-f:]+ calls\n", read(server.stdout, 1))


def test_blocking(user: User) -> None:
    with user.running("examples/blocking.py") as server:
        multiaddr = place_of(server)
        assert user.run("examples/blocking.py", multiaddr, "1", "2", "3.5") == "6.5\n"
        assert user.run("examples/blocking.py", multiaddr, "one") == "numbers, please\n"


def test_chat_of_three_in_a_row(user: User) -> None:
    with ExitStack() as stack:
        people: dict[str, subprocess.Popen[str]] = {}
        place: list[str] = []
        for name in ("alice", "bob", "carol"):
            people[name] = stack.enter_context(user.running("examples/chat.py", name, *place))
            place = [place_of(people[name])]
            assert [read(each.stdout, 1) for each in people.values()] == [f"{name}: is here\n"] * len(people)
        for name, process in people.items():
            assert process.stdin
            process.stdin.write(f"hello from {name}\n")
            process.stdin.flush()
            assert [read(each.stdout, 1) for each in people.values()] == [f"{name}: hello from {name}\n"] * 3
        for process in people.values():
            assert process.stdin
            process.stdin.close()
            assert process.wait(30) == 0


def test_file_server(user: User) -> None:
    folder = user.home / "folder"
    folder.mkdir()
    (folder / "hello world.txt").write_text("hello\n")
    (folder / "large").write_text("0123456789abcdef" * 500_000)
    (folder / "way out").symlink_to(user.home / "secret")
    (user.home / "secret").write_text("secret\n")
    with user.running("examples/file_server.py", str(folder)) as server:
        multiaddr = place_of(server)

        def fetch(path: str, code: int = 0) -> str:
            return user.run("examples/file_server.py", multiaddr, path, code=code)

        assert fetch("hello world.txt") == "hello\n"
        assert fetch("large") == "0123456789abcdef" * 500_000
        assert "hello world.txt" in fetch("")
        for path in ("nothing", "../secret", "folder/../../secret", "/etc/passwd", "way out"):
            assert re.fullmatch(rf"{re.escape(path)}: HTTP/1\.\d 40[34] .*\n", fetch(path, code=1))


def test_test_of_ones_own(user: User) -> None:
    # pytest is all that it needs.
    words = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "examples/test_chat.py")
    assert re.search(r"^=+ 6 passed in .*=$", user.run(*words), re.MULTILINE)


@pytest.mark.parametrize("example", ["chat.py", "file_server.py"])
def test_example_without_what_it_needs_says_how_it_is_used(user: User, example: str) -> None:
    said = user.run(f"examples/{example}", code=1)
    assert f"\npython {example} " in said
    assert "Traceback" not in said
