"""The floors of the house, checked: imports go down only, and floor 1 and below touch no IO, clock or randomness.

Run as `python -m checks.floors`; prints each breach on a line and exits 1 if there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "weft"

FLOORS: dict[str, int] = {
    **dict.fromkeys(("errors", "rates", "identity", "multiaddr", "packet", "burst"), 0),
    **dict.fromkeys(("noise", "paths", "mesh", "stack", "switch", "swarm", "ledger", "firewall"), 1),
    "io": 2,
    "engine": 3,
    **dict.fromkeys(("api", "netd", "clients"), 4),
    **dict.fromkeys(("cli", "web", "testing", "blocking"), 5),
}

# Rooms of one floor do not import each other, but for what everybody stands on.
SIDEWAYS = {
    ("identity", "errors"),
    ("multiaddr", "errors"),
    ("multiaddr", "identity"),
    ("packet", "errors"),
    ("burst", "errors"),
    ("burst", "packet"),
    # A node offers what stands on its streams: `node.http()` and the like, which import it when they are called.
    ("api", "clients"),
}

IMPURE = frozenset(
    "asyncio select selectors socket socketserver ssl subprocess threading multiprocessing concurrent signal os io "
    "pathlib shutil tempfile time datetime random secrets uuid fcntl trio anyio uvloop aiohttp pyroute2 click".split()
)


def imports_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports at run time."""
    typing_only: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            typing_only.update(id(inner) for body in node.body for inner in ast.walk(body))
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "weft":
                yield from ((node.lineno, f"weft.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def breaches(root: Path = SOURCE) -> list[str]:
    """One line for each import that goes up, sideways, or out of the pure floors."""
    found: list[str] = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        room = parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        where = f"{path.relative_to(root.parent.parent)}"
        if room not in FLOORS:
            found.append(f"{where}: {room} stands on no floor; give it one in checks/floors.py")
            continue
        floor = FLOORS[room]
        for line, name in imports_of(ast.parse(path.read_text())):
            head, *rest = name.split(".")
            if head == "weft" and rest and rest[0] in FLOORS and rest[0] != room:
                other = rest[0]
                if FLOORS[other] > floor:
                    found.append(f"{where}:{line}: {room} (floor {floor}) imports {other} (floor {FLOORS[other]})")
                elif FLOORS[other] == floor and (room, other) not in SIDEWAYS:
                    found.append(f"{where}:{line}: {room} imports its neighbour {other}; let them meet a floor up")
            elif floor <= 1 and head in IMPURE:
                found.append(f"{where}:{line}: {room} (floor {floor}) imports {head}")
    return found


def main() -> int:
    """Print the breaches; the exit code says whether there are any."""
    found = breaches()
    print("\n".join(found) if found else "floors: imports go down only")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
