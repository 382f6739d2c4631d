"""Runs a command in a host as a unit file says, as far as that needs no systemd.

    python -m tests.system.sandbox RIGHTS DIRECTORY COMMAND...

RIGHTS are capabilities as setpriv takes them; `root` changes nothing but what is seen of the file system, for a
person's command beside the service. DIRECTORY becomes /var/lib/weft. It emulates what could keep the service from its
work: user and capabilities, the file system that can only be read, hidden homes and /tmp, the filter of system calls
and address families, memory that is never writable and executable.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

UNIT = Path("systemd/weft.service").resolve()
USER = 65_534
STATE = Path("/var/lib/weft")
_CLONE_NEWNS = 0x00020000
_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_SCMP_ACT_ERRNO, _SCMP_ACT_ALLOW, _SCMP_CMP_EQ = 0x00050000, 0x7FFF0000, 4


def settings_of_unit(unit: Path = UNIT) -> dict[str, list[str]]:
    """What a unit sets, each value in the order of the file."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text().splitlines():
        if assignment := re.match(r"(\w+)=(.*)", line):
            found[assignment[1]].append(assignment[2])
    return found


def rights_of_unit() -> str:
    """As setpriv takes them."""
    (names,) = settings_of_unit()["AmbientCapabilities"]
    return ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in names.split())])


def hide(directory: Path) -> None:
    """Take the sight of homes and /tmp, and the right to write, from this process and its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    mount("--make-rprivate", "/")
    needed = {Path.cwd(), *(Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix))}
    mount("-t", "tmpfs", "tmpfs", "/mnt")
    kept = {Path(f"/mnt/{number}"): path for number, path in enumerate([directory, *sorted(needed)])}
    for place, path in kept.items():
        place.mkdir()
        mount("--bind", str(path), str(place))
    hidden = [Path(path) for path in ("/root", "/home", "/tmp", "/var/tmp", "/var/lib") if Path(path).is_dir()]
    for path in hidden:
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(path))
    for place, path in kept.items():
        visible = STATE if path == directory else path
        if any(visible.is_relative_to(each) for each in hidden):
            visible.mkdir(parents=True, exist_ok=True)
            mount("--bind", str(place), str(visible))
            mount("-o", "bind,remount,rw" if visible == STATE else "bind,remount,ro", str(visible))
    for path in ["/", *map(str, hidden), "/mnt"]:
        mount("-o", "remount,bind,ro", path)
    mount("--bind", "/proc/sys", "/proc/sys")
    mount("-o", "remount,bind,ro", "/proc/sys")


def become_nobody(directory: Path) -> None:
    """Be in the sandbox, from now on, without any right."""
    hide(directory)
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        assert libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    # A program that is executed could be looked at by its user.
    assert libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    restrict()
    os.umask(0o077)


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def restrict() -> None:
    """Refuse system calls, address families and memory as the unit says."""
    settings = settings_of_unit()
    libc = ctypes.CDLL(None, use_errno=True)
    if settings["MemoryDenyWriteExecute"] == ["yes"]:
        assert libc.prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
    context = ctypes.c_void_p(seccomp.seccomp_init(_SCMP_ACT_ERRNO | errno.EPERM))
    for name in allowed_calls(settings["SystemCallFilter"]) - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add_array(context, _SCMP_ACT_ALLOW, number, 0, None) == 0, name
    call = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in settings["RestrictAddressFamilies"][0].split():
        first = _Comparison(0, _SCMP_CMP_EQ, getattr(socket, family), 0)
        assert seccomp.seccomp_rule_add_array(context, _SCMP_ACT_ALLOW, call, 1, ctypes.byref(first)) == 0
    assert seccomp.seccomp_load(context) == 0


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def allowed_calls(lines: list[str]) -> set[str]:
    """The system calls that the lines of SystemCallFilter leave."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    groups: dict[str, list[str]] = defaultdict(list)
    for line in listed.splitlines():
        if line.startswith("@"):
            group = line.strip()
        elif line.startswith("    ") and not line.startswith("    #"):
            groups[group].append(line.strip())

    def expanded(word: str) -> set[str]:
        return set().union(*map(expanded, groups[word])) if word.startswith("@") else {word}

    allowed = expanded("@default")
    for line in lines:
        words = set().union(*map(expanded, line.removeprefix("~").split()))
        allowed = allowed - words if line.startswith("~") else allowed | words
    return allowed


if __name__ == "__main__":
    rights, directory, *command = sys.argv[1:]
    if directory != "-":
        hide(Path(directory))
        if rights == "root":
            os.execvp(command[0], command)
        user = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        capabilities = [f"--inh-caps={rights}", f"--ambient-caps={rights}", f"--bounding-set={rights}"]
        inner = [sys.executable, "-m", "tests.system.sandbox", rights, "-", *command]
        os.execvp("setpriv", ["setpriv", *user, *capabilities, *inner])
    restrict()
    os.umask(0o077)
    os.execvp(command[0], command)
