"""urllib3, requests and http.client in the network, against servers there."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import urllib3
from aiohttp import web
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

import weft
from tests.unit.blocking.conftest import Pair, make_pair
from tests.unit.blocking.test_stream import deaf
from tests.unit.clients.certificates import Files
from weft.blocking.stream import Stream
from weft.clients.tls.connect import client_context, server_context
from weft.errors import UsageError

LARGE = 64 * 1024 * 1024
PIECE = bytes(range(256)) * 1024


class Site:
    """What bob serves."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.over = asyncio.Event()
        self.application = web.Application(client_max_size=2 * LARGE)
        self.application.router.add_get("/", self.root)
        self.application.router.add_get("/large", self.large)
        self.application.router.add_get("/silent", self.silent)
        self.application.router.add_get("/last", self.last)
        self.application.router.add_get("/elsewhere", self.elsewhere)
        self.application.router.add_get("/headers", self.headers)
        self.application.router.add_post("/digest", self.digest)

    async def root(self, request: web.Request) -> web.Response:
        self.connections.add(request.transport)
        return web.json_response({"host": request.host, "scheme": request.scheme})

    async def large(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(LARGE)})
        await answer.prepare(request)
        for _ in range(LARGE // len(PIECE)):
            await answer.write(PIECE)
        return answer

    async def silent(self, request: web.Request) -> web.Response:
        await self.over.wait()
        return web.Response()

    async def last(self, request: web.Request) -> web.Response:
        self.connections.add(request.transport)
        answer = web.Response(text="the last")
        answer.force_close()
        return answer

    async def elsewhere(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/")

    async def headers(self, request: web.Request) -> web.Response:
        if "again" in request.query:
            return web.json_response(sorted(request.headers))
        raise web.HTTPFound("/headers?again=")

    async def digest(self, request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        async for part in request.content.iter_any():
            digest.update(part)
        return web.Response(text=digest.hexdigest())


@pytest.fixture(scope="module", params=["stack-asyncio", "kernel-uvloop"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    # The streams below are tested with all.
    yield from make_pair(request.param, tmp_path_factory.mktemp("pair"))


@pytest.fixture
def site(pair: Pair, files: Files) -> Iterator[tuple[Site, str, str]]:
    """The site, and where it is, without TLS and with it."""
    site = Site()
    with ExitStack() as stack:
        for name, context in (("http", None), ("https", server_context(files.certificate("bob")))):
            server = pair.bob._call(pair.bob._node.serve_app, site.application, 0, ssl=context)

            async def end(server: Any = server) -> None:
                server.close()
                await server.wait_closed()

            stack.callback(pair.bob._call, end)
            setattr(site, name, f"{name}://bob:{server.port}")
        stack.callback(pair.bob._background.soon, site.over.set)
        yield site, site.http, site.https  # type: ignore[attr-defined]


Served = tuple[Site, str, str]


@pytest.fixture
def session(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[requests.Session]:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, weft.blocking.HTTPAdapter(pair.alice))
        yield session


@pytest.fixture
def pools(pair: Pair) -> Iterator[urllib3.PoolManager]:
    with weft.blocking.PoolManager(pair.alice, retries=False) as pools:
        yield pools


class TestRequests:
    def test_connection_is_kept(self, session: requests.Session, site: Served) -> None:
        served, url, _ = site
        for _ in range(10):
            assert session.get(url).json() == {"host": url.partition("//")[2], "scheme": "http"}
        assert len(served.connections) == 1

    def test_connection_that_was_closed_is_not_used_again(self, session: requests.Session, site: Served) -> None:
        served, url, _ = site
        for _ in range(3):
            assert session.get(f"{url}/last").text == "the last"
        assert len(served.connections) == 3

    def test_64_mb_as_a_stream_and_back(self, session: requests.Session, site: Served) -> None:
        _, url, _ = site
        received = hashlib.sha256()
        with session.get(f"{url}/large", stream=True) as answer:
            for part in answer.iter_content(256 * 1024):
                received.update(part)
        expected = hashlib.sha256(PIECE * (LARGE // len(PIECE))).hexdigest()
        assert received.hexdigest() == expected
        assert session.post(f"{url}/digest", data=(PIECE for _ in range(LARGE // len(PIECE)))).text == expected

    def test_answer_that_is_not_read_to_its_end_waits_in_the_server(
        self, session: requests.Session, site: Served
    ) -> None:
        _, url, _ = site
        with session.get(f"{url}/large", stream=True) as answer:
            assert next(answer.iter_content(len(PIECE))) == PIECE
        assert session.get(url).ok

    def test_redirects(self, session: requests.Session, site: Served) -> None:
        _, url, _ = site
        answer = session.get(f"{url}/elsewhere")
        assert (answer.url, [each.status_code for each in answer.history]) == (f"{url}/", [302])

    def test_timeouts(self, session: requests.Session, site: Served) -> None:
        _, url, _ = site
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{url}/silent", timeout=(20, 0.05))

    def test_timeout_of_connecting(self, stacks: Pair) -> None:
        with requests.Session() as session, stacks.bob.create_server(("", 0)) as server:
            session.mount("http://", weft.blocking.HTTPAdapter(stacks.alice))
            with deaf(stacks.bob), pytest.raises(requests.ConnectTimeout):
                session.get(f"http://bob:{server.getsockname()[1]}/", timeout=0.1)

    def test_nobody_there(self, session: requests.Session, pair: Pair) -> None:
        with pair.bob.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(requests.ConnectionError, match="refused"):
            session.get(f"http://bob:{port}/")
        with pytest.raises(requests.ConnectionError, match="resolve"):
            session.get("http://nobody.invalid/")

    def test_proxies_are_not_asked(
        self, session: requests.Session, site: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, url, _ = site
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert session.get(url).ok
        assert session.get(url, proxies={"http": "http://127.0.0.1:9"}).ok

    def test_what_a_proxy_is_told_no_peer_is(
        self, session: requests.Session, site: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, url, _ = site
        monkeypatch.setenv("HTTP_PROXY", "http://somebody:secret@127.0.0.1:9")
        assert "Proxy-Authorization" not in session.get(f"{url}/headers").json()

    def test_many_threads_share_a_session(
        self, session: requests.Session, site: Served, threads: ThreadPoolExecutor
    ) -> None:
        served, url, _ = site
        answers = list(threads.map(lambda _: session.get(url).status_code, range(64)))
        assert answers == [200] * 64
        assert len(served.connections) <= 64


class TestTls:
    def test_own_authority(self, session: requests.Session, site: Served, files: Files) -> None:
        served, _, url = site
        for _ in range(3):
            assert session.get(url, verify=str(files.roots)).json()["scheme"] == "https"
        assert len(served.connections) == 1

    def test_64_mb(self, session: requests.Session, site: Served, files: Files) -> None:
        _, _, url = site
        received = 0
        with session.get(f"{url}/large", stream=True, verify=str(files.roots)) as answer:
            for part in answer.iter_content(256 * 1024):
                received += len(part)
        assert received == LARGE

    def test_unknown_authority_is_refused_unless_anyone_will_do(self, session: requests.Session, site: Served) -> None:
        _, _, url = site
        with pytest.raises(requests.exceptions.SSLError, match="unable to get local issuer"):
            session.get(url)
        with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
            assert session.get(url, verify=False).ok

    def test_authority_of_the_system(
        self, session: requests.Session, site: Served, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, _, url = site
        # Where OpenSSL looks; requests' own list is not asked.
        monkeypatch.setenv("SSL_CERT_FILE", str(files.roots))
        assert session.get(url).ok

    def test_wrong_name_is_refused(
        self, session: requests.Session, pair: Pair, files: Files, pools: urllib3.PoolManager
    ) -> None:
        context = server_context(files.certificate("somebody"))
        with pair.bob.create_server(("", 0), ssl=context) as server:
            url = f"https://bob:{server.getsockname()[1]}/"
            with pytest.raises(requests.exceptions.SSLError, match="Hostname mismatch"):
                session.get(url, verify=str(files.roots))
            with pytest.raises(SSLError, match="Hostname mismatch"):
                weft.blocking.PoolManager(pair.alice, ca_certs=str(files.roots), retries=False).request("GET", url)

    def test_certificate_of_our_own(self, session: requests.Session, pair: Pair, files: Files) -> None:
        own = files.certificate("alice")
        context = server_context(files.certificate("bob"), clients=files.roots)

        async def who(request: web.Request) -> web.Response:
            return web.json_response(request.get_extra_info("peercert")["subjectAltName"])

        application = web.Application()
        application.router.add_get("/", who)
        server = pair.bob._call(pair.bob._node.serve_app, application, 0, ssl=context)
        url = f"https://bob:{server.port}/"
        assert session.get(url, verify=str(files.roots), cert=str(own)).json() == [["DNS", "alice"]]
        with pytest.raises(requests.ConnectionError):
            session.get(url, verify=str(files.roots))

        async def end() -> None:
            server.close()
            await server.wait_closed()

        pair.bob._call(end)


@pytest.fixture(scope="module")
def site_of_stack(stacks: Pair) -> Iterator[int]:
    """The port of the site on a node that others know by its id too."""
    server = stacks.bob._call(stacks.bob._node.serve_app, Site().application, 0)

    async def end() -> None:
        server.close()
        await server.wait_closed()

    yield server.port
    stacks.bob._call(end)


class TestIds:
    @pytest.mark.parametrize("spell", [str, str.upper])
    @pytest.mark.parametrize("end", ["", ".weft"])
    def test_host_is_an_id_in_the_spelling_without_capitals(
        self, stacks: Pair, site_of_stack: int, spell: Callable[[str], str], end: str
    ) -> None:
        url = f"http://{spell(stacks.bob.identity.to_dns_label() + end)}:{site_of_stack}/"
        with requests.Session() as session, weft.blocking.PoolManager(stacks.alice) as pools:
            session.mount("http://", weft.blocking.HTTPAdapter(stacks.alice))
            assert session.get(url, timeout=20).json()["scheme"] == "http"
            assert pools.request("GET", url, timeout=20).json()["scheme"] == "http"

    def test_id_with_capitals_is_lost_and_not_taken_for_another(self, stacks: Pair, site_of_stack: int) -> None:
        with requests.Session() as session:
            session.mount("http://", weft.blocking.HTTPAdapter(stacks.alice))
            with pytest.raises(requests.ConnectionError, match="Failed to resolve"):
                session.get(f"http://{stacks.bob.identity}:{site_of_stack}/", timeout=20)


class TestUrllib3:
    def test_pools(self, pools: urllib3.PoolManager, site: Served, files: Files, pair: Pair) -> None:
        served, plain, tls = site
        for _ in range(5):
            assert pools.request("GET", plain).json()["scheme"] == "http"
        assert len(served.connections) == 1
        with weft.blocking.PoolManager(pair.alice, ca_certs=str(files.roots)) as trusting:
            for _ in range(2):
                assert trusting.request("GET", tls).json()["scheme"] == "https"
        assert len(served.connections) == 2

    def test_context_version_and_fingerprint(self, pair: Pair, site: Served, files: Files) -> None:
        _, _, url = site
        with weft.blocking.PoolManager(pair.alice, ssl_context=client_context(roots=files.roots)) as pools:
            assert pools.request("GET", url).status == 200
        old = weft.blocking.PoolManager(
            pair.alice, ca_certs=str(files.roots), ssl_maximum_version=ssl.TLSVersion.TLSv1_2, retries=False
        )
        # The server speaks nothing below 1.3.
        with old, pytest.raises((SSLError, ProtocolError)):
            old.request("GET", url)
        wrong = weft.blocking.PoolManager(
            pair.alice, cert_reqs="CERT_NONE", assert_fingerprint="00" * 32, retries=False
        )
        with wrong, pytest.raises(SSLError, match="Fingerprints did not match"):
            wrong.request("GET", url)

    def test_stream(self, pools: urllib3.PoolManager, site: Served) -> None:
        _, url, _ = site
        answer = pools.request("GET", f"{url}/large", preload_content=False)
        assert sum(len(part) for part in answer.stream(100_000)) == LARGE
        answer.release_conn()

    def test_failures_are_urllib3s_own(self, pair: Pair, pools: urllib3.PoolManager, site: Served) -> None:
        _, url, _ = site
        with pair.bob.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(NewConnectionError, match="bob: connection refused"):
            pools.request("GET", f"http://bob:{port}/")
        with pytest.raises(NameResolutionError):
            pools.request("GET", "http://nobody.invalid/")
        with pytest.raises(ReadTimeoutError):
            pools.request("GET", f"{url}/silent", timeout=0.05)
        with pytest.raises(MaxRetryError, match="Max retries"):
            pools.request("GET", f"http://bob:{port}/", retries=1)

    def test_timeout_of_connecting(self, stacks: Pair) -> None:
        with stacks.bob.create_server(("", 0)) as server:
            pools = weft.blocking.PoolManager(stacks.alice, retries=False)
            url = f"http://bob:{server.getsockname()[1]}/"
            with deaf(stacks.bob), pytest.raises(ConnectTimeoutError, match=r"no answer within 0\.1 s"):
                pools.request("GET", url, timeout=0.1)

    def test_options_of_sockets(self, pair: Pair, site: Served) -> None:
        _, url, _ = site
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)]
        with weft.blocking.PoolManager(pair.alice, socket_options=options) as pools:
            answer = pools.request("GET", f"{url}/large", preload_content=False)
            stream = answer.connection.sock
            assert isinstance(stream, Stream)
            assert [bool(stream.getsockopt(*option[:2])) for option in options] == [True, False]
            answer.close()


def test_http_client_by_the_two_lines_of_the_docs(pair: Pair, site: Served) -> None:
    _, url, _ = site
    host, _, port = url.partition("//")[2].partition(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.sock = pair.alice.create_connection((host, int(port)))
    for _ in range(3):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.status, b"bob" in answer.read()) == (200, True)
    connection.close()


@pytest.mark.parametrize("missing", ["requests", "urllib3"])
def test_without_the_packages_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if name.startswith(("weft.blocking.adapter", "weft.blocking.pools"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("requests", "requests.adapters") if missing == "requests" else ("urllib3", "urllib3.connection"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"needs {missing}.*, which is not installed: pip install 'weft\[requests\]'"):
        _ = weft.blocking.HTTPAdapter if missing == "requests" else weft.blocking.PoolManager
