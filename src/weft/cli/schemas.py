"""The JSON schema of what each command prints with `--json`, for the documentation and for tests.

Not done here: OpenAPI, which describes the same values as the API serves them (api/openapi.py).
"""

from __future__ import annotations

from typing import Any

import msgspec

from weft.cli.command import Command, every_command
from weft.cli.root import weft

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each line of output, by the command as it is typed.

    A command that answers once prints one line; one that goes on prints a line for each thing it tells. A command that
    prints no JSON is left out.

    Source: JSON Schema 2020-12.
    """
    return {
        " ".join(("weft", *way)): {"$schema": DIALECT, **msgspec.json.schema(command.result)}
        for way, command in every_command(weft)
        if isinstance(command, Command) and command.result is not None
    }
