"""The description of the API is valid and complete, and the server does what it says, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.unit.api.fake_engine import FakeEngine, serving
from weft.api.loopback import Loopback
from weft.api.openapi import describe, example_of
from weft.api.problem import KINDS
from weft.api.v0.route import Nothing
from weft.api.v0.table import CHANNELS, DOCUMENTS, ROUTES, STREAMS

SETTINGS = Path(__file__).with_name("schemathesis.toml")
NOT_ASKED = "/v0/(events|log/follow|sockets)$"
"""Streams of the fake node that never end, and what leaves HTTP."""
ROWS = (*ROUTES, *STREAMS, *CHANNELS, *DOCUMENTS)


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return describe()


def test_description_is_valid(described: dict[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_each_route_is_described_once_under_its_own_name(described: dict[str, Any]) -> None:
    operations = {
        (method.upper(), path): operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {(row.method, row.path) for row in ROWS}
    assert len({operation["operationId"] for operation in operations.values()}) == len(ROWS)
    assert all(operation["summary"] for operation in operations.values())


def test_types_have_the_words_of_their_docstrings(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    assert schemas["PeerStatus"]["description"].startswith("One peer")
    assert schemas["PeerStatus"]["properties"]["loss"]["description"] == "Smoothed loss of datagrams to it, 0 to 1."
    # A text of the field's own type is not replaced.
    assert "`/tcp/80`" in schemas["ChangePorts"]["properties"]["rules"]["description"]


def test_each_node_error_is_among_the_statuses_of_what_changes_something(described: dict[str, Any]) -> None:
    connect = described["paths"]["/v0/peer/connect"]["post"]["responses"]
    assert {str(kind.status) for kind in KINDS} <= set(connect)
    info = described["paths"]["/v0/info"]["get"]["responses"]
    assert set(info) == {"200", "400", "401", "408", "413", "421", "429", "500"}
    assert "application/problem+json" in info["400"]["content"]


def test_parameters_of_what_only_looks_are_in_the_query(described: dict[str, Any]) -> None:
    (kinds,) = described["paths"]["/v0/events"]["get"]["parameters"]
    assert (kinds["name"], kinds["in"], kinds["required"]) == ("kinds", "query", False)
    assert kinds["example"] == ["peer-up", "peer-down"]


@pytest.mark.parametrize("row", [row for row in ROWS if row.parameters is not Nothing], ids=lambda row: row.path)
def test_route_has_an_example_of_its_type(row: Any) -> None:
    assert isinstance(msgspec.convert(example_of(row), row.parameters), row.parameters)


async def test_description_is_served_as_it_is(tmp_path: Path, described: dict[str, Any]) -> None:
    async with serving(FakeEngine(), tmp_path / "api.sock"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "api.sock")
        writer.write(b"GET /v0/openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        reply = await reader.read()
        writer.close()
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert json.loads(body) == described


async def check(directory: Path, *options: str) -> tuple[int, str]:
    """What schemathesis says of the server, which it asks over TCP."""
    token_file = directory / "api.token"
    with Loopback("127.0.0.1:0", token_file) as loopback:
        async with serving(FakeEngine(), directory / "api.sock", loopback):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS)),
                *("run", f"{loopback.url}/v0/openapi.json", "--checks", "all"),
                *("-H", f"Authorization: Bearer {token_file.read_text().strip()}", "--exclude-path-regex", NOT_ASKED),
                *("--continue-on-failure", "--no-shrink", "--no-color", *options),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_server_does_what_its_description_says(tmp_path: Path) -> None:
    code, output = await check(
        tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--generation-deterministic"
    )
    assert code == 0, output
    # All but those three and the description itself, which schemathesis leaves out.
    assert f"Tested: {len(ROWS) - 4}\n" in output


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_server_does_what_its_description_says_for_long(tmp_path: Path) -> None:
    code, output = await check(tmp_path, "--max-examples", "200", "--generation-database", "none")
    assert code == 0, output
