"""The page that maps the requirements of RFC 9293 to tests, and the tests (docs/tcp.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = (HERE.parents[3] / "docs" / "tcp.md").read_text(encoding="utf-8")
TESTS = {
    name: path.name
    for path in HERE.glob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
ROWS = {
    cells[0]: cells[1:]
    for line in PAGE.splitlines()
    if re.match(r"\| (MUST|SHLD)-", line)
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}
REQUIREMENTS = 69


def test_every_requirement_is_on_the_page() -> None:
    assert {int(name[5:]) for name in ROWS if name.startswith("MUST-")} == set(range(1, 1 + REQUIREMENTS))


@pytest.mark.parametrize("name", ROWS)
def test_each_has_tests_that_exist_or_says_why_not(name: str) -> None:
    section, what, tests, remark = ROWS[name]
    assert re.fullmatch(r"3(\.\d+)*", section)
    assert what
    found = re.findall(r"`(\w+)`", tests)
    assert set(found) <= set(TESTS)
    assert bool(found) is not remark.startswith("Not done")


def test_every_test_of_a_requirement_is_on_the_page() -> None:
    for test in TESTS:
        for kind, number in re.findall(r"(must|shld)_(\d+)(?=_|$)", test):
            name = f"{kind.upper()}-{number}"
            section, _what, tests, _remark = ROWS[name]
            assert f"`{test}`" in tests, name
            assert test.startswith(f"test_{section.replace('.', '_')}_"), name


def test_every_file_that_the_page_names_exists() -> None:
    for name in re.findall(r"test_\w+\.py", PAGE):
        assert (HERE / name).exists()
