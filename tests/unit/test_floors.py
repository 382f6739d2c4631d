"""The check of the floors finds what it is there to find."""

from pathlib import Path

import pytest
from checks.floors import breaches


def test_the_house_keeps_its_floors() -> None:
    assert breaches() == []


@pytest.mark.parametrize(
    ("where", "text", "said"),
    [
        ("noise/a.py", "import socket\n", "imports socket"),
        ("noise/a.py", "from weft.engine import engine\n", "imports engine (floor 3)"),
        ("noise/a.py", "from weft import firewall\n", "its neighbour firewall"),
        ("burst/a.py", "from time import monotonic_ns\n", "imports time"),
        ("attic/a.py", "", "stands on no floor"),
    ],
)
def test_a_breach_is_named(tmp_path: Path, where: str, text: str, said: str) -> None:
    path = tmp_path / "src" / "weft" / where
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert [line for line in breaches(tmp_path / "src" / "weft") if said in line]
