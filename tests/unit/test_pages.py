"""What the pages say is true: links lead somewhere, commands exist, numbers are those of the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import click
import pytest

from tests.unit.cli.examples import typed
from weft.cli.root import weft
from weft.multiaddr import PROTOCOLS
from weft.paths.mtu import SIZES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WITH_COMMANDS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
"""Those below `docs` link to pages that are only there in the site; its build holds these links to be right."""
README = ROOT / "README.md"
WIRE = ROOT / "docs" / "wire.md"

FOR_USERS = [
    *(ROOT / name for name in ("README.md", "docs/index.md", "docs/tutorial.md", "docs/comparison.md")),
    *sorted((ROOT / "docs" / "how-to").iterdir()),
    *sorted((ROOT / "docs" / "explanation").iterdir()),
]

UNITS = {"ms": 10**6, "s": 10**9, "KiB": 2**10, "MiB": 2**20, "": 1}
CONSTANT = re.compile(r"^\| `(weft(?:\.\w+)+)\.(\w+)` \| ([^|]+) \|", re.MULTILINE)


def text_of(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: Path) -> set[str]:
    """Where links into a page may lead: its headings."""
    headings = re.findall(r"^#+ (.*)", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_of_a_page_lead_to_something(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path) if path else page
        if not aim.exists() or (anchor and anchor not in anchors_of(aim)):
            dead.append(target)
    assert dead == []


def commands_of(page: Path) -> Iterator[list[str]]:
    """The words behind each `weft` of the page's shell blocks, options and all; what `console` blocks show is run."""
    for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            yield from typed(line)


def commands_named_in(page: Path) -> Iterator[list[str]]:
    """The same of what stands between backticks in its text and its tables."""
    for code in re.findall(r"`((?:sudo )?weft [^`]+)`", " ".join(text_of(page).split())):
        yield from typed(code)


def fault_of(words: list[str]) -> str:
    """Why the command has no such form, or nothing; it is parsed and not run."""
    command: click.Command = weft
    context = click.Context(command, info_name="weft")
    try:
        while isinstance(command, click.Group) and words:
            if words[:1] == ["--dir"]:
                words = words[2:]
            if words in (["--help"], ["--version"]):
                return ""
            name, found, words = command.resolve_command(context, words)
            assert found is not None
            command, context = found, click.Context(found, info_name=name, parent=context)
        if isinstance(command, click.Group):
            return ""
        command.make_context(context.info_name, list(words), parent=context.parent)
    except click.UsageError as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_blocks_of_a_page_name_only_commands_that_there_are(page: Path) -> None:
    assert [(words, fault) for words in commands_of(page) if (fault := fault_of(words))] == []


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_text_of_a_page_names_only_commands_that_there_are(page: Path) -> None:
    # A command is named alone, or with all that it needs.
    faults = [(words, fault_of(words)) for words in commands_named_in(page)]
    assert [(words, fault) for words, fault in faults if fault and not fault.startswith("Missing ")] == []


def test_quick_start_of_the_readme_has_the_commands_of_two_machines() -> None:
    commands = [" ".join(words[:2]) for words in commands_of(README)]
    assert {"up", "info", "status"} <= {command.split()[0] for command in commands}
    assert {"peer connect", "fc00 allow"} <= set(commands)


def test_command_that_there_is_not_would_be_found() -> None:
    assert "no command `weft peer conect`" in fault_of(["peer", "conect", "/ip4/192.0.2.1"])
    assert fault_of(["up", "--quickly"]) != ""
    assert fault_of(["fc00", "allow"]) != ""


def value_of(written: str) -> Fraction:
    """A number of the table: `64,400`, `0x42005`, `250 ms`, `2^64 − 2^13 − 1`."""
    if "^" in written:
        powers = [Fraction(int(base)) ** int(power or 1) for base, power in re.findall(r"(\d+)(?:\^(\d+))?", written)]
        return powers[0] - sum(powers[1:])
    number, _, unit = written.partition(" ")
    number = number.replace(",", "")
    return (Fraction(int(number, 16)) if number.startswith("0x") else Fraction(number)) * UNITS[unit]


def test_constants_of_the_wire_page_are_those_of_the_code() -> None:
    rows = CONSTANT.findall(WIRE.read_text("utf-8"))
    assert len(rows) > 50
    wrong = []
    for module, name, written in rows:
        actual = getattr(import_module(module), name)
        if value_of(written.strip()) != Fraction(str(actual)):
            wrong.append(f"{module}.{name} is {actual}, not {written}")
    assert wrong == []


def test_protocols_of_the_wire_page_are_those_of_the_code() -> None:
    (table,) = re.findall(r"^\| component \| code \|.*?\n\n", WIRE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    written = {
        name: int(code, 0)
        for names, codes in re.findall(r"^\| ([a-z0-9, ]+) \| ([\dx, ]+) \|", table, re.MULTILINE)
        for name, code in zip(names.split(", "), codes.split(", "), strict=True)
    }
    assert written == {name: protocol.code for name, protocol in PROTOCOLS.items()}


def test_ladder_of_the_wire_page_is_the_one_of_the_code() -> None:
    assert ", ".join(map(str, SIZES)) in " ".join(WIRE.read_text("utf-8").split())


def test_extras_and_dependencies_are_all_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[<>=\[; ]", requirement)[0] for group in groups for requirement in group}
    assert [name for name in sorted(names) if f"| {name} |" not in page] == []


def test_readme_opens_with_the_ten_lines_that_the_demo_shows_too() -> None:
    example = (ROOT / "examples" / "ten_lines.py").read_text("utf-8")
    section = README.read_text("utf-8").partition("## Ten lines of Python\n")[2]
    block = section.partition("```python\n")[2].partition("```")[0]
    assert example.endswith(f'"""\n\n{block}')
