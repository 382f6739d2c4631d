"""The API over TCP: who gets in, who does not, and what is told to them."""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.api.fake_engine import FakeEngine, serving
from tests.unit.api.test_bad_requests import read_reply
from weft.api import connection
from weft.api.loopback import Loopback
from weft.errors import ConfigError, UsageError


@pytest.fixture
async def loopback(tmp_path: Path) -> AsyncIterator[Loopback]:
    with Loopback("127.0.0.1:0", tmp_path / "api.token") as loopback:
        yield loopback


def token(path: Path) -> str:
    return (path / "api.token").read_text().strip()


async def ask(
    loopback: Loopback, path: str = "/v0/info", *, method: str = "GET", host: str = "localhost", **headers: str
) -> tuple[int, dict[str, str], dict]:
    reader, writer = await asyncio.open_connection(*loopback.socket.getsockname()[:2])
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    try:
        return await asyncio.wait_for(read_reply(reader), 5)
    finally:
        writer.close()


async def test_who_shows_the_token_gets_what_there_is_on_the_unix_socket(loopback: Loopback, tmp_path: Path) -> None:
    async with serving(FakeEngine(), tmp_path / "api.sock", loopback):
        for scheme in ("Bearer", "bearer"):
            status, _, info = await ask(loopback, Authorization=f"{scheme} {token(tmp_path)}")
            assert (status, info["address"]) == (200, "fc22::1")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Basic dXNlcjpwYXNz", "Bearer " + "x" * 8000, "Bearer \xff", "TOKEN", "Bearer TOKENx"],
)
@pytest.mark.parametrize("path", ["/v0/info", "/v0/stop", "/metrics", "/v0/events", "/nothing"])
async def test_who_does_not_is_told_how_and_learns_nothing(
    loopback: Loopback, tmp_path: Path, header: str, path: str
) -> None:
    engine = FakeEngine()
    header = header.replace("TOKEN", token(tmp_path))
    async with serving(engine, tmp_path / "api.sock", loopback):
        headers = {"Authorization": header.encode().decode("latin-1")} if header else {}
        status, reply, problem = await ask(loopback, path, method="POST" if path == "/v0/stop" else "GET", **headers)
    assert (status, reply["content-type"]) == (401, "application/problem+json")
    assert reply["www-authenticate"].startswith('Bearer realm="weft"')
    assert "Authorization: Bearer" in problem["detail"]
    assert engine.calls == []


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /v0/info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"GET /v0/info HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /v0/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"CONNECT weft:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v0/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{",
    ],
)
async def test_garbage_is_refused_and_the_server_goes_on(loopback: Loopback, tmp_path: Path, raw: bytes) -> None:
    engine = FakeEngine()
    async with serving(engine, tmp_path / "api.sock", loopback, patience_s=0.1):
        reader, writer = await asyncio.open_connection(*loopback.socket.getsockname()[:2])
        writer.write(raw)
        status, headers, problem = await asyncio.wait_for(read_reply(reader), 5)
        writer.close()
        assert status == problem["status"]
        assert status in {400, 401, 421}
        assert headers["content-type"] == "application/problem+json"
        assert engine.calls == []
        assert (await ask(loopback, Authorization=f"Bearer {token(tmp_path)}"))[0] == 200


async def test_wrong_token_is_logged_without_it(
    loopback: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(FakeEngine(), tmp_path / "api.sock", loopback):
            await ask(loopback, Authorization="Bearer s3cr3t-of-somebody")
            said = f"a request to the API at {loopback.url} had a wrong token"
    assert said in caplog.text
    assert "s3cr3t" not in caplog.text
    assert token(tmp_path) not in caplog.text


async def test_many_wrong_tokens_are_slowed_and_the_right_one_is_not(loopback: Loopback, tmp_path: Path) -> None:
    async with serving(FakeEngine(), tmp_path / "api.sock", loopback):
        replies = [await ask(loopback, Authorization="Bearer wrong") for _ in range(30)]
        good, _, _ = await ask(loopback, Authorization=f"Bearer {token(tmp_path)}")
    statuses = [status for status, _, _ in replies]
    assert statuses[:10] == [401] * 10
    assert 429 in statuses[10:]
    limited = replies[statuses.index(429)]
    assert limited[1]["retry-after"] == "1"
    assert good == 200


@pytest.mark.parametrize(
    ("host", "is_good"),
    [
        ("localhost", True),
        ("LOCALHOST:9480", True),
        ("127.0.0.1:9480", True),
        ("127.9.9.9", True),
        ("[::1]:9480", True),
        ("[::1]", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:9480", False),
        ("192.0.2.1", False),
        ("[::2]", False),
        ("", False),
    ],
)
async def test_name_of_elsewhere_that_points_here_is_refused_even_with_the_token(
    loopback: Loopback, tmp_path: Path, host: str, is_good: bool
) -> None:
    async with serving(FakeEngine(), tmp_path / "api.sock", loopback):
        status, _, _ = await ask(loopback, host=host, Authorization=f"Bearer {token(tmp_path)}")
    assert status == (200 if is_good else 421)


async def test_page_of_elsewhere_is_not_allowed_to_read(loopback: Loopback, tmp_path: Path) -> None:
    async with serving(FakeEngine(), tmp_path / "api.sock", loopback):
        status, headers, _ = await ask(loopback, method="OPTIONS", Origin="http://evil.example")
        assert status == 401
        status, more, _ = await ask(loopback, Origin="http://evil.example", Authorization=f"Bearer {token(tmp_path)}")
    assert not any(name.startswith("access-control") for name in (*headers, *more))


async def test_full_tcp_port_leaves_the_unix_socket_free(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 2)
    async with serving(FakeEngine(), tmp_path / "api.sock", loopback):
        address = loopback.socket.getsockname()[:2]
        writers = [(await asyncio.open_connection(*address))[1] for _ in range(2)]
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        reader, unix = await asyncio.open_unix_connection(tmp_path / "api.sock")
        unix.write(b"GET /v0/info HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_reply(reader))[0] == 200
        for each in (*writers, writer, unix):
            each.close()


async def test_client_that_stalls_before_its_token_is_dropped(loopback: Loopback, tmp_path: Path) -> None:
    async with serving(FakeEngine(), tmp_path / "api.sock", loopback, patience_s=0.05):
        reader, writer = await asyncio.open_connection(*loopback.socket.getsockname()[:2])
        writer.write(b"GET /v0/info HTTP/1.1\r\nHost: localhost\r\nAuthoriz")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


def test_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.token"
    Loopback("127.0.0.1:0", path).close()
    made = path.read_text()
    assert len(made.strip()) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Loopback("[::1]:0", path).close()
    assert path.read_text() == made


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("x" * 40, 0o644, r"others can use this secret \(mode 0644\); run: chmod 600"),
        ("short", 0o600, "at least 16 ASCII characters"),
        ("", 0o600, "at least 16 ASCII characters"),
        ("two words " * 4, 0o600, "no spaces"),
        ("ä" * 20, 0o600, "ASCII"),
    ],
)
def test_bad_token_file_is_one_clear_error(tmp_path: Path, content: str, mode: int, says: str) -> None:
    path = tmp_path / "api.token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=says):
        Loopback("127.0.0.1:0", path)


def test_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UsageError, match=rf"{listen}: the API can't listen there: Address already in use"):
            Loopback(listen, tmp_path / "api.token")


@pytest.mark.parametrize("listen", ["0.0.0.0:9480", "192.0.2.1:9480", "[::]:9480", "localhost:9480", "127.0.0.1", "x"])
def test_address_that_others_reach_is_refused(tmp_path: Path, listen: str) -> None:
    with pytest.raises(UsageError, match="loopback interface only"):
        Loopback(listen, tmp_path / "api.token")
