"""Bytes on the socket that no good client sends: each gets one clear problem, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.api.fake_engine import FakeEngine, serving
from weft.api.connection import MAX_CONNECTIONS
from weft.api.request import MAX_BODY_BYTES

GOOD = b"GET /v0/info HTTP/1.1\r\nHost: weft\r\n\r\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
async def engine(path: Path) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    async with serving(engine, path):
        yield engine
        # Whatever the test did, a good client is served afterwards.
        status, _, body = await ask(path, GOOD)
        assert (status, body["schema"]) == (200, 1)


async def ask(path: Path, raw: bytes) -> tuple[int, dict[str, str], dict]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(raw)
    try:
        return await read_reply(reader)
    finally:
        writer.close()


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    return int(first.split()[1]), headers, body


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: weft\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


RULES = b'{"rules": ["/tcp/80"]}'


@pytest.mark.parametrize(
    ("raw", "status", "says"),
    [
        (post("/v0/fc00/allow", b'{"rules": '), 400, "not JSON"),
        (post("/v0/fc00/allow", b"\xff\xfe"), 400, "not JSON"),
        (post("/v0/fc00/allow", b'{"rules": ["\xff"]}'), 400, "not JSON"),
        (post("/v0/fc00/allow", b"[" * 20000), 422, "Expected `object`"),
        (post("/v0/fc00/allow", b'{"x": ' + b"[" * 20000), 422, "unknown field `x`"),
        (post("/v0/fc00/allow", b"[]"), 422, "Expected `object`"),
        (post("/v0/fc00/allow", b'{"rules": "/tcp/80"}'), 422, "Expected `array`, got `str` - at `$.rules`"),
        (post("/v0/fc00/allow", b'{"rules": []}'), 422, "length >= 1"),
        (post("/v0/fc00/allow", b""), 422, "missing required field `rules`"),
        (post("/v0/fc00/allow", b'{"rules": ["/icmp"], "rule": 1}'), 422, "unknown field `rule`"),
        (post("/v0/stop", b'{"now": true}'), 422, "unknown field `now`"),
        (post("/v0/peer/ping", b'{"peer": "x", "timeout_s": 1e9}'), 422, "<= 300"),
        (post("/v0/peer/ping", b'{"peer": "x", "size": -1}'), 422, ">= 0"),
        (post("/v0/peer/set", b'{"peer": "x", "keepalive_s": 0}'), 422, ">= 1"),
        (post("/v0/peer/set", b'{"peer": "x", "mtu": 1280}'), 422, "unknown field `mtu`"),
        (post("/v0/peer/set", b'{"peer": "x", "endpoints": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]}'), 422, "8"),
        (post("/v0/peer/set", b'{"name": "x"}'), 422, "missing required field `peer`"),
        (post("/v0/fc00/allow", RULES, "text/plain"), 415, "application/json"),
        (b"POST /v0/fc00/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 415, "application/json"),
        (post("/v0/info", b"{}"), 405, "/v0/info takes GET"),
        (b"GET /v0/stop HTTP/1.1\r\nHost: x\r\n\r\n", 405, "/v0/stop takes POST"),
        (b"DELETE /v0/peer/list HTTP/1.1\r\nHost: x\r\n\r\n", 405, "takes GET"),
        (b"GET /v0/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing at this path"),
        (b"GET /v0/info/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing at this path"),
        (b"GET /v0/../v0/info HTTP/1.1\r\nHost: x\r\n\r\n", 404, "nothing at this path"),
        (b"GET /v0/info?a=b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "no query"),
        (post("/v0/fc00/allow", b'{"rules": ["' + b"x" * MAX_BODY_BYTES + b'"]}'), 413, "1048576 bytes"),
        (b"\x00\xff\x16\x03\x01 garbage\r\n\r\n", 400, "no HTTP request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "no HTTP request"),
        (b"GET /v0/info HTTP/1.1\r\nno colon\r\n\r\n", 400, "no HTTP request"),
        (b"GET /v0/info HTTP/1.1\r\nX: " + b"x" * 10000 + b"\r\n\r\n", 400, "no HTTP request"),
        (
            b"POST /v0/fc00/allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
            "no HTTP request",
        ),
    ],
)
async def test_bad_request_gets_one_problem_and_changes_nothing(
    engine: FakeEngine, path: Path, raw: bytes, status: int, says: str
) -> None:
    got, headers, problem = await ask(path, raw)
    assert (got, problem["status"]) == (status, status)
    assert headers["content-type"].startswith("application/problem+json")
    assert says in problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail"}
    assert engine.fc00.rules == ["/icmp"]
    assert not engine.stop_asked.is_set()


async def test_wrong_method_names_the_right_one(engine: FakeEngine, path: Path) -> None:
    _, headers, _ = await ask(path, b"PUT /v0/stop HTTP/1.1\r\nHost: x\r\n\r\n")
    assert headers["allow"] == "POST"
    assert not engine.stop_asked.is_set()


async def test_chunked_body_without_end_is_cut_at_the_bound(engine: FakeEngine, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(
        b"POST /v0/fc00/allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    writer.write(chunk * (MAX_BODY_BYTES // 0x1000 + 1))
    status, _, _ = await read_reply(reader)
    writer.close()
    assert status == 413
    assert engine.calls == []


async def test_pipelined_requests_are_answered_in_order(engine: FakeEngine, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write((GOOD + post("/v0/fc00/allow", RULES) + GOOD.replace(b"info", b"nope")) * 20 + GOOD)
    statuses = [(await read_reply(reader))[0] for _ in range(61)]
    writer.close()
    assert statuses == [200, 200, 404] * 20 + [200]
    assert engine.fc00.rules == ["/icmp"] + ["/tcp/80"] * 20


async def test_body_that_turns_into_garbage_is_not_waited_for(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path, patience_s=0.05):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(
            b"POST /v0/fc00/allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
        )
        await asyncio.sleep(0.02)
        writer.write(b"zz\r\n")
        async with asyncio.timeout(5):
            status, _, _ = await read_reply(reader)
        writer.close()
    assert status in {400, 408}
    assert engine.calls == []


async def test_client_that_vanishes_in_its_body_is_forgotten_in_silence(
    engine: FakeEngine, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(post("/v0/fc00/allow", RULES)[:-1])
    await asyncio.sleep(0.02)
    writer.transport.abort()
    await asyncio.sleep(0.02)
    assert engine.calls == []
    assert caplog.records == []


async def test_client_that_vanishes_before_its_reply_does_no_harm(
    engine: FakeEngine, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine.blocks = asyncio.Event()
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(post("/v0/peer/connect", b'{"target": "/x"}'))
    await asyncio.sleep(0.02)
    assert engine.calls == [("connect", "/x", 10.0)]
    writer.transport.abort()
    await asyncio.sleep(0.02)
    engine.blocks.set()
    assert (await ask(path, GOOD))[0] == 200
    assert caplog.records == []


async def test_too_many_clients_are_turned_away(engine: FakeEngine, path: Path) -> None:
    clients = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.read() == b""
    writer.close()
    assert engine.calls == []
    for _, writer in clients:
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0.01)


async def test_ten_thousand_connections_cost_a_warning_a_second_and_nobody_is_kept_out(
    engine: FakeEngine, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    for _ in range(100):
        clients = await asyncio.gather(*(asyncio.open_unix_connection(path) for _ in range(100)))
        for _, writer in clients:
            writer.transport.abort()
    await asyncio.sleep(0.02)
    assert (await ask(path, GOOD))[0] == 200
    warnings = [record for record in caplog.records if "turned away" in record.getMessage()]
    assert 1 <= len(warnings) <= time.monotonic() - started + 1
    assert engine.calls == [("info",)]


@pytest.mark.parametrize("piece", [b"G", b"GET /v0/info HTTP/1.1\r\nX: ", b"GET /v0/info HTTP/1.1\r\nA: b\r\n"])
async def test_client_that_drips_its_request_is_dropped_as_if_it_was_silent(path: Path, piece: bytes) -> None:
    async with serving(FakeEngine(), path, patience_s=0.1):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(piece)
        ended = asyncio.create_task(reader.read())
        dripped = 0
        while not ended.done() and dripped < 200:
            writer.write(b"x")
            dripped += 1
            await asyncio.wait({ended}, timeout=0.01)
        assert ended.done()
        writer.close()


@pytest.mark.parametrize("method", [b"HEAD", b"OPTIONS", b"TRACE", b"PATCH"])
@pytest.mark.parametrize("target", [b"/v0/info", b"/v0/events", b"/metrics"])
async def test_other_methods_are_refused_with_the_one_that_there_is(
    engine: FakeEngine, path: Path, method: bytes, target: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"405 Method Not Allowed" in head
    assert b"Allow: GET" in head
    assert b"application/problem+json" in head
    assert (body == b"") == (method == b"HEAD")


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET /v0/in", b"GET /v0/info HTTP/1.1\r\nHost: x\r\n", GOOD],
    ids=["silent", "half a line", "half a head", "idle"],
)
async def test_client_that_stalls_is_dropped(path: Path, beginning: bytes) -> None:
    async with serving(FakeEngine(), path, patience_s=0.05):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(beginning)
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
        assert (await ask(path, GOOD))[0] == 200


async def test_body_that_stalls_is_told_so_and_dropped(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path, patience_s=0.05):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(post("/v0/fc00/allow", RULES)[:-1])
        async with asyncio.timeout(5):
            status, _, problem = await read_reply(reader)
            assert await reader.read() == b""
        writer.close()
    assert (status, problem["title"]) == (408, "Request Timeout")
    assert engine.calls == []


async def test_client_that_does_not_read_is_dropped(path: Path) -> None:
    engine = FakeEngine()
    engine.fc00.rules = ["/tcp/80"] * 500_000
    async with serving(engine, path, patience_s=0.05):
        reader, writer = await asyncio.open_unix_connection(path, limit=1024)
        writer.write(GOOD.replace(b"info", b"fc00/ports"))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            got = await reader.read()
        writer.close()
    assert 0 < len(got) < 10 * 500_000


async def test_requests_of_a_client_that_does_not_read_do_not_pile_up(path: Path) -> None:
    requests, taken = GOOD * 1000, 0
    async with serving(FakeEngine(), path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.setblocking(False)
            with suppress(TimeoutError):
                while taken < 400 * len(requests):
                    async with asyncio.timeout(0.3):
                        await asyncio.get_running_loop().sock_sendall(client, requests)
                    taken += len(requests)
    assert taken < 100 * len(requests)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blobs=st.lists(st.binary(max_size=300), max_size=4))
def test_random_bytes_never_stop_the_server(tmp_path: Path, blobs: list[bytes]) -> None:
    path = tmp_path / "api.sock"

    async def throw() -> int:
        async with serving(FakeEngine(), path):
            for blob in blobs:
                _, writer = await asyncio.open_unix_connection(path)
                writer.write(blob)
                writer.close()
            return (await ask(path, GOOD))[0]

    assert asyncio.run(throw()) == 200
