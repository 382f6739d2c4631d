"""The reference pages that are made from the code: commands, their JSON, the API, configuration, metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from weft.api.openapi import document
from weft.api.reference import api_page, metrics_page
from weft.cli.command import Command, every_command
from weft.cli.root import weft
from weft.cli.schemas import schemas
from weft.engine.manual import render_reference

WIDTH = 100
LINE = 200


def pages() -> dict[str, str]:
    """All pages and files of the reference, by their place in the site."""
    made = {
        "reference/commands.md": commands_page(),
        "reference/json.md": json_page(),
        "reference/configuration.md": render_reference(),
        "reference/api.md": api_page(),
        "reference/openapi.json": document().decode(),
        "reference/metrics.md": metrics_page(),
    }
    made |= {f"reference/{schema_file(name)}": json.dumps(schema, indent=2) for name, schema in schemas().items()}
    return made


def schema_file(name: str) -> str:
    """Where the schema of a command's JSON is, beside the pages of the reference."""
    return f"schemas/{name.replace(' ', '-')}.json"


def commands_page() -> str:
    """The help of every command, in the order of the help."""
    parts = [
        "# Commands",
        "What `weft COMMAND --help` says, all of it. Options may stand before and after the command; each has a "
        "variable of the environment as well, which is named with it. Those of the last three lines are taken by every "
        "command.",
    ]
    for way, help_text in helps():
        level = "##" if len(way) < 2 else "###"
        parts += [f"{level} weft {' '.join(way)}".rstrip(), f"```text\n{help_text}\n```"]
        name = " ".join(("weft", *way))
        if name in schemas():
            parts.append(f"With `--json`: [schema]({schema_file(name)}).")
    return "\n\n".join(parts) + "\n"


def helps() -> Iterator[tuple[tuple[str, ...], str]]:
    """Each command and its help."""
    for way, command in every_command(weft):
        context: click.Context | None = None
        for number in range(len(way) + 1):
            inner = dict(every_command(weft))[way[:number]]
            name = way[number - 1] if number else "weft"
            context = inner.make_context(name, [], context, resilient_parsing=True, terminal_width=WIDTH)
        assert context is not None
        yield way, command.get_help(context).rstrip()


def json_page() -> str:
    """Which commands print JSON, and the schema of each."""
    rows = [
        f"| `{' '.join(('weft', *way))}` | {first_line(command)} | [schema]({schema_file(' '.join(('weft', *way)))}) |"
        for way, command in every_command(weft)
        if isinstance(command, Command) and " ".join(("weft", *way)) in schemas()
    ]
    return "\n".join(
        [
            "# JSON",
            "",
            "Every command that shows something takes `--json`, and so does the variable `WEFT_JSON=1`. It prints one "
            "JSON object on one line; commands that go on (`ping`, `logs -f`, `status --watch`, `capture`) print one "
            "a line for each thing that happens. Errors go to standard error as without it, and the exit code is the "
            "same.",
            "",
            "`schema` is the version of the shape: it grows when a field goes or changes its meaning. New fields may "
            "come without it, so ignore those that you do not know.",
            "",
            "| command | what it shows | schema |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def first_line(command: click.Command) -> str:
    """What a command does, in one line."""
    return command.get_short_help_str(LINE)
