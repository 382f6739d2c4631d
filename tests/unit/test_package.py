"""The package as others get it: imports everywhere, a pure wheel with its types, one version, docstrings."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import weft

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "weft"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MODULES = sorted(SOURCE.rglob("*.py"))

# Everything is imported once, so that the standard library and the dependencies are there: they have a way of their own
# on each system. Then weft is forgotten, what other systems lack is taken away, and weft is imported again.
ELSEWHERE = """
import importlib, os, pkgutil, select, signal, socket, sys


def import_all():
    import weft

    names = [module.name for module in pkgutil.walk_packages(weft.__path__, "weft.")]
    for name in names:
        importlib.import_module(name)
    return names


import_all()
for name in [name for name in sys.modules if name.partition(".")[0] == "weft"]:
    del sys.modules[name]

PLATFORM = {platform!r}
BLOCKED = {{"fcntl", "pyroute2", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog", "crypt"}}
if PLATFORM == "darwin":
    BLOCKED = {{"pyroute2"}}


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{{name}} is not on this system")


for name in [name for name in sys.modules if name.partition(".")[0] in BLOCKED]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())

MISSING = {{
    socket: ("AF_NETLINK", "AF_PACKET", "SO_BINDTODEVICE", "SO_MARK", "SO_PRIORITY", "MSG_NOSIGNAL", "MSG_ERRQUEUE"),
    select: ("epoll", "EPOLLIN", "EPOLLOUT"),
    os: ("pidfd_open", "eventfd", "sched_getaffinity", "sched_setaffinity", "memfd_create", "splice"),
}}
if PLATFORM == "win32":
    MISSING[socket] += ("AF_UNIX", "CMSG_LEN", "CMSG_SPACE", "SCM_RIGHTS", "MSG_DONTWAIT", "socketpair")
    MISSING[os] += (
        "geteuid", "getuid", "getgid", "readv", "writev", "fork", "setsid", "fchmod", "O_NONBLOCK", "O_CLOEXEC",
        "O_NOFOLLOW", "O_DIRECTORY", "killpg", "uname", "mkfifo",
    )
    MISSING[signal] = ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE")
    os.name = "nt"
for module, names in MISSING.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.platform = PLATFORM
print(*import_all(), sep="\\n")
"""


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_module_imports_where_the_system_is_another(platform: str) -> None:
    program = ELSEWHERE.format(platform=platform)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    dotted = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in MODULES}
    assert imported == {name.removesuffix(".__init__") for name in dotted} - {"weft"}


def test_block_of_the_test_above_works() -> None:
    program = ELSEWHERE.format(platform="win32") + "\nimport fcntl"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "ImportError: fcntl is not on this system" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built by the installed hatchling, so that nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    built = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(ROOT)], capture_output=True, text=True, check=False, timeout=100
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.iterdir()
    return zipfile.ZipFile(path)


def test_wheel_is_pure_python(wheel: zipfile.ZipFile) -> None:
    assert Path(str(wheel.filename)).name == f"weft-{weft.__version__}-py3-none-any.whl"
    assert {Path(name).suffix for name in wheel.namelist() if name.startswith("weft/")} == {".py", ".typed"}


def test_wheel_has_every_module_and_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.startswith("weft/")}
    assert packed == {str(path.relative_to(SOURCE.parent)) for path in [*MODULES, SOURCE / "py.typed"]}


def test_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    info = f"weft-{weft.__version__}.dist-info"
    assert "weft = weft.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_wheel_needs_pyroute2_only_where_it_is_asked_for(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(f"weft-{weft.__version__}.dist-info/METADATA").decode().splitlines()
    needed = [line.partition(": ")[2] for line in metadata if line.startswith("Requires-Dist: ")]
    assert len([line for line in needed if "extra ==" not in line]) == len(PROJECT["dependencies"])
    assert [line for line in needed if line.startswith("pyroute2")] == ["pyroute2>=0.9.5; extra == 'linux'"]


def test_wheel_installed_in_a_fresh_environment_has_the_command_and_the_service(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    """What the readme and the tutorial say to type; what weft depends on is lent, so that nothing is fetched."""
    venv.create(tmp_path, symlinks=True)
    command = (sys.executable, "-m", "pip", f"--python={tmp_path}/bin/python", "install", "--quiet", "--no-deps")
    installed = subprocess.run(
        [*command, "--no-index", str(wheel.filename)], capture_output=True, text=True, check=False, timeout=100
    )
    assert installed.returncode == 0, installed.stderr
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text("\n".join({sysconfig.get_path(kind) for kind in ("purelib", "platlib")}))
    told = subprocess.run([f"{tmp_path}/bin/weft", "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert told.stdout == f"weft {weft.__version__}\n"
    where = subprocess.run(
        [f"{tmp_path}/bin/python", "-c", "import weft; print(weft.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert Path(where.stdout.strip()) == packages / "weft" / "__init__.py"
    for unit in (ROOT / "systemd").iterdir():
        assert (tmp_path / "lib" / "systemd" / "system" / unit.name).read_bytes() == unit.read_bytes()


def test_version_of_the_project_is_that_of_the_package() -> None:
    assert PROJECT["version"] == weft.__version__


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
