"""What the pages show is what happens: each console block of the documentation is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.lab import Lab
from tests.system.transcript import Stage, pattern_of, steps_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]
    if DOCS / "proof" not in page.parents and "$ " in page.read_text()
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_do_what_it_shows(lab: Lab, page: Path) -> None:
    steps = steps_of(page.read_text("utf-8"))
    stage = Stage(lab, {step.host for step in steps})
    for step in steps:
        stage.run(step)


def test_other_output_than_the_page_shows_is_found() -> None:
    (step,) = steps_of("```console\nalice$ echo one \\\n  two\none …o\n```\n")
    assert step.command == "echo one two"
    assert pattern_of(step.expected).fullmatch("one two\n")
    assert not pattern_of(step.expected).fullmatch("one three\n")
    assert not pattern_of(step.expected).fullmatch("one two\nthree\n")
    assert pattern_of(["a", "…"]).fullmatch("a\nb\nc\n")
