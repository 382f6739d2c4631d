"""Proof of what an issue asked for: runs the commands of docs/proof/NAME.toml and writes docs/proof/NAME.md.

Each point is a claim and the command that shows it; the page gets the command, its output and the commit it ran at, so
that anybody can run it again. Run as `python -m checks.proof NAME [WORD …]`; words choose the points whose claim or
command has one of them, the others keep what the page has.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import gettempdir

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "proof"
SHOWN_LINES = 160
TIMEOUT_S = 3600


def commit() -> str:
    """The short hash of what is checked out, with a mark if something is not committed but the pages of proof."""
    named = subprocess.run(("git", "rev-parse", "--short=9", "HEAD"), capture_output=True, text=True, check=True)
    changed = subprocess.run(("git", "diff", "--quiet", "HEAD", "--", ".", ":!docs/proof"), check=False)
    return named.stdout.strip() + ("-dirty" if changed.returncode else "")


def run(command: str) -> tuple[int, str]:
    """Run one command in a shell at the root of the checkout; returns exit code and the end of what it printed.

    What fails within a pipe fails the whole of it: a filter behind a test would hide that.
    """
    done = subprocess.run(
        ("bash", "-o", "pipefail", "-c", command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    printed = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).replace(str(ROOT), ".").replace(gettempdir(), "$TMPDIR")
    lines = printed.rstrip().splitlines()
    if len(lines) > SHOWN_LINES:
        lines = [f"(… {len(lines) - SHOWN_LINES} lines)", *lines[-SHOWN_LINES:]]
    return done.returncode, "\n".join(lines)


def section(claim: str, command: str) -> tuple[bool, str]:
    """One point of the page, and whether its command succeeded."""
    print(f"==> {claim}\n    {command}", flush=True)
    code, output = run(command)
    verdict = "" if code == 0 else f", exit code {code}"
    return code == 0, f"## {claim}\n\nAt `{commit()}`{verdict}:\n\n```console\n$ {command}\n{output}\n```\n"


def sections_of(page: Path) -> dict[str, str]:
    """The points that a page has, by their claim."""
    if not page.exists():
        return {}
    parts = re.split(r"^## (.*)\n", page.read_text(), flags=re.MULTILINE)
    return {claim: f"## {claim}\n{body.rstrip()}\n" for claim, body in zip(parts[1::2], parts[2::2], strict=True)}


def main() -> int:
    """Write the page; the exit code is 1 if a command failed."""
    name, *words = sys.argv[1:]
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    page = FOLDER / f"{name}.md"
    sections = sections_of(page)
    is_good = True
    for point in table["point"]:
        claim, command = point["claim"], point["command"].strip()
        if not words or any(word in claim + command for word in words):
            succeeded, sections[claim] = section(claim, command)
            is_good = is_good and succeeded
    ordered = [sections[point["claim"]] for point in table["point"] if point["claim"] in sections]
    page.write_text(f"# {table['title']}\n\n{table['preface'].strip()}\n\n" + "\n".join(ordered))
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
