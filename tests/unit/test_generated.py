"""The reference pages that are made from the code, and how the site takes them in."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import jsonschema
import pytest

from weft.cli.command import Command, every_command
from weft.cli.root import weft

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMANDS = {" ".join(("weft", *way)): command for way, command in every_command(weft)}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(DOCS), *sys.path])
        made: dict[str, str] = import_module("generated").pages()
    return made


def headings_of(page: str) -> list[str]:
    return re.findall(r"^##+ (.*)", page, re.MULTILINE)


def test_every_command_is_on_its_page_with_its_help_and_examples(pages: dict[str, str]) -> None:
    page = pages["reference/commands.md"]
    assert headings_of(page) == list(COMMANDS)
    sections = dict(zip(COMMANDS, re.split(r"^##+ .*", page, flags=re.MULTILINE)[1:], strict=True))
    for name, command in COMMANDS.items():
        assert isinstance(command, Command)
        assert f"Usage: {name} " in sections[name]
        assert [line for line in command.examples if f"\n  {line}\n" not in sections[name]] == []


def test_every_command_that_prints_json_is_on_the_page_of_json_with_its_schema(pages: dict[str, str]) -> None:
    rows = re.findall(r"^\| `(weft[^`]*)` \|.*\]\((.*)\) \|$", pages["reference/json.md"], re.MULTILINE)
    with_json = {name for name, command in COMMANDS.items() if isinstance(command, Command) and command.result}
    assert {name for name, _ in rows} == with_json
    assert {f"reference/{path}" for _, path in rows} == {
        path for path in pages if path.startswith("reference/schemas/")
    }


def test_every_schema_is_one(pages: dict[str, str]) -> None:
    schemas = [json.loads(text) for path, text in pages.items() if path.startswith("reference/schemas/")]
    assert len(schemas) > 30
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)


def test_description_of_the_api_is_json(pages: dict[str, str]) -> None:
    assert json.loads(pages["reference/openapi.json"])["openapi"].startswith("3.")


def test_links_of_the_pages_lead_to_something(pages: dict[str, str]) -> None:
    there = {*pages, *(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))}
    dead = []
    for path, page in pages.items():
        if not path.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page, flags=re.DOTALL)):
            aim, _, anchor = target.partition("#")
            aim = str((DOCS / path).parent.joinpath(aim).resolve().relative_to(DOCS)) if aim else path
            slugs = {
                re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings_of(pages.get(aim, ""))
            }
            if not target.startswith("http") and (
                aim not in there or (anchor and aim in pages and anchor not in slugs)
            ):
                dead.append((path, target))
    assert dead == []


def test_site_names_each_page_once_in_its_navigation(pages: dict[str, str]) -> None:
    named = re.findall(r"^ *- .*: (\S+\.md)$", (ROOT / "properdocs.yml").read_text("utf-8"), re.MULTILINE)
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if path.parent.name != "proof"}
    made = {path for path in pages if path.endswith(".md")}
    assert sorted(named) == sorted(written | made | {"ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"})
