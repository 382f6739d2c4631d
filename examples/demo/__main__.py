"""One encrypted network, on this machine: what a person types, and whether the answers are true.

    make demo            or            python examples/demo

First a Python program that is two nodes, and then two daemons without any right, which everybody may run everywhere:
TLS, SSH, files. Then two hosts with a daemon and an interface each, where there is root or may be user namespaces.

Nothing is left, however the demo ends. The exit code is 0 only if every value that was shown was checked and is right.
"""

from __future__ import annotations

import re
import shlex
import signal
import sys
import textwrap
from pathlib import Path

import daemons
import machines
from showing import Denied, Host, Wrong, apart, environment, play, say, without_rights

HERE = Path(__file__).resolve().parent


def show_ten_lines() -> None:
    say("# Two nodes in one Python program, which needs no right at all.", style="2")
    program = HERE.parent / "ten_lines.py"
    source = program.read_text().partition("import weft\n")[2]
    say(textwrap.indent(re.sub(r"\n+", "\n", source.strip()), "  "))
    say()
    machine = Host("you", "", HERE, without_rights(), environment())
    with machine.types(f"python {shlex.quote(program.as_posix())}") as said:
        said.line("hello from bob")


def show_daemons() -> int:
    """Run the second part; returns its exit code."""
    if not (Path(sys.executable).parent / "weft").exists():
        raise Wrong("weft is not installed beside this Python; `make demo` does that")
    return apart("daemons")


def show_machines(namespaces: list[str] | Denied) -> int:
    """Run the third part in namespaces, where that may be; returns its exit code."""
    if isinstance(namespaces, Denied):
        say(f"# Two machines with a daemon and an interface each are left out: {namespaces}.", style="2")
        return 0
    return apart("machines", namespaces)


def main() -> int:
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, _: sys.exit(128 + number))
    try:
        namespaces = machines.namespaces()
        show_ten_lines()
        code = show_daemons() or show_machines(namespaces)
    except Wrong as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; nothing is left of it", file=sys.stderr)
        return 130
    if code == 0:
        say("Everything above was checked, and nothing is left of it.", style="32")
    return code


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["daemons", directory]:
            sys.exit(play(daemons.tell, Path(directory), daemons.end))
        case ["machines", directory]:
            sys.exit(play(machines.tell, Path(directory)))
        case _:
            sys.exit(main())
