"""`weft guest add` as a person sees it: the QR code is read off the terminal."""

from __future__ import annotations

import re

import pytest

from tests.unit.api.fake_engine import FakeEngine
from tests.unit.cli.pseudo_terminal import at_terminal
from tests.unit.cli.terminal import Terminal
from tests.unit.cli.test_wireguard_files import decoded

COLORS = re.compile(r"\x1b\[[0-9;]*m")
WORDS = ("guest", "add", "phone")


def code_in(seen: str) -> list[str]:
    """The lines of the QR code, without colours."""
    lines = [COLORS.sub("", line) for line in seen.splitlines()]
    return [line for line in lines if line and set(line) <= set("█▀▄ ")]


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["colours", "no colours"])
def test_qr_code_at_a_terminal_is_what_the_file_says(
    weft: Terminal, node: FakeEngine, environment: dict[str, str]
) -> None:
    code, seen = at_terminal("--dir", str(weft.directory), *WORDS, **environment)
    assert code == 0
    file = seen[: seen.index("█")]
    without = [line for line in COLORS.sub("", file).splitlines() if line and not line.startswith("#")]
    assert decoded(code_in(seen)).splitlines() == without
    assert ("\x1b[97;40m" in seen) is not bool(environment)
    assert "Its private key is shown this once" in seen


def test_terminal_too_narrow_for_the_qr_code_is_told_so(weft: Terminal, node: FakeEngine) -> None:
    code, seen = at_terminal("--dir", str(weft.directory), *WORDS, columns=40)
    assert code == 0
    assert code_in(seen) == []
    assert re.search(r"# the QR code needs \d+ columns, and this terminal has 40", seen)


def test_terminal_gets_no_qr_code_that_was_not_wanted(weft: Terminal, node: FakeEngine) -> None:
    assert code_in(at_terminal("--dir", str(weft.directory), *WORDS, "--no-qr")[1]) == []
