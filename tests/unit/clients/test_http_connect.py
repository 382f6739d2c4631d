"""HTTP as a proxy hears it, without input or output; h11 reads the same heads."""

from __future__ import annotations

from base64 import b64encode

import h11
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from weft.clients.proxy.http_connect import HEAD_BYTES, HttpDialect, decode_authority, decode_head, encode_authority
from weft.clients.proxy.request import Command, Refusal, Request
from weft.clients.proxy.users import Users
from weft.errors import DecodeError

OPEN = Users()
CLOSED = Users({b"anna": b"s3cret:x"})
CONNECT = b"CONNECT bob.weft:443 HTTP/1.1\r\nHost: bob.weft:443\r\n\r\n"
GET = (
    b"POST http://bob.weft:8080/a?b=c HTTP/1.1\r\nHost: other\r\nAccept: */*\r\nContent-Length: 5\r\n"
    b"Proxy-Connection: Keep-Alive\r\nConnection: Keep-Alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n"
)


def heard(*pieces: bytes, users: Users = OPEN) -> HttpDialect:
    dialect = HttpDialect(users)
    for piece in pieces:
        if dialect.request is None and dialect.refusal is None:
            assert dialect.receive(piece) == b""
        else:
            dialect.first += piece
    return dialect


def basic(credentials: bytes) -> bytes:
    return CONNECT[:-2] + b"Proxy-Authorization: Basic " + b64encode(credentials) + b"\r\n\r\n"


class TestConnect:
    def test_every_split_is_understood_alike(self) -> None:
        said = CONNECT + b"\x16hello"
        for at in range(1, len(said)):
            dialect = heard(said[:at], said[at:])
            assert dialect.request == Request(Command.CONNECT, "bob.weft", 443)
            assert dialect.first == b"\x16hello"
        assert dialect.accept("fc00::1", 1).startswith(b"HTTP/1.1 200 ")
        assert dialect.accept("fc00::1", 1).endswith(b"\r\n\r\n")

    @pytest.mark.parametrize(
        ("target", "host", "port"),
        [("[fc00::1]:22", "fc00::1", 22), ("192.0.2.1:80", "192.0.2.1", 80), ("loom:65535", "loom", 65_535)],
    )
    def test_addresses(self, target: str, host: str, port: int) -> None:
        assert heard(f"CONNECT {target} HTTP/1.0\r\n\r\n".encode()).request == Request(Command.CONNECT, host, port)

    @pytest.mark.parametrize(
        "target",
        ["bob", "bob:", "bob:0", "bob:65536", "bob:x", "fc00::1:80", "[bob]:80", "a@b:80", "http://bob/", ":80"],
    )
    def test_what_is_no_authority(self, target: str) -> None:
        with pytest.raises(DecodeError):
            heard(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())


class TestForwarded:
    def test_request_goes_on_as_a_server_expects_it(self) -> None:
        dialect = heard(GET + b"12", b"345")
        assert dialect.request == Request(Command.CONNECT, "bob.weft", 8080)
        assert dialect.first == (
            b"POST /a?b=c HTTP/1.1\r\nHost: bob.weft:8080\r\nAccept: */*\r\nContent-Length: 5\r\n"
            b"Connection: close\r\n\r\n12345"
        )
        assert dialect.accept("fc00::1", 1) == b""

    def test_every_split_is_understood_alike(self) -> None:
        whole = heard(GET + b"12345").first
        for at in range(1, len(GET) + 5):
            assert heard((GET + b"12345")[:at], (GET + b"12345")[at:]).first == whole

    @pytest.mark.parametrize(
        ("url", "line", "host"),
        [
            ("http://bob", b"GET / HTTP/1.1\r\n", b"Host: bob\r\n"),
            ("http://bob:80/", b"GET / HTTP/1.1\r\n", b"Host: bob\r\n"),
            ("HTTP://bob?q", b"GET /?q HTTP/1.1\r\n", b"Host: bob\r\n"),
            ("http://[fc00::1]:81/x", b"GET /x HTTP/1.1\r\n", b"Host: [fc00::1]:81\r\n"),
        ],
    )
    def test_urls(self, url: str, line: bytes, host: bytes) -> None:
        first = heard(f"GET {url} HTTP/1.1\r\n\r\n".encode()).first
        assert first == line + host + b"Connection: close\r\n\r\n"

    @pytest.mark.parametrize(
        "url", ["/", "*", "https://bob/", "http://a@bob/", "http://bob/#x", "http://", "ftp://bob/"]
    )
    def test_what_a_proxy_is_not_asked_for(self, url: str) -> None:
        with pytest.raises(DecodeError):
            heard(f"GET {url} HTTP/1.1\r\n\r\n".encode())


class TestLogin:
    def test_who_is_known_comes_in_and_the_password_goes_no_further(self) -> None:
        assert heard(basic(b"anna:s3cret:x"), users=CLOSED).request is not None
        said = GET[:-2] + b"Proxy-Authorization: Basic " + b64encode(b"anna:s3cret:x") + b"\r\n\r\n"
        assert b"Basic" not in heard(said, users=CLOSED).first

    @pytest.mark.parametrize(
        "said",
        [
            CONNECT,
            basic(b"anna:secret"),
            basic(b"anna"),
            basic(b""),
            basic(b"bob:s3cret:x"),
            CONNECT[:-2] + b"Proxy-Authorization: Basic !!!\r\n\r\n",
            CONNECT[:-2] + b"Proxy-Authorization: Bearer YW5uYTpzM2NyZXQ6eA==\r\n\r\n",
        ],
    )
    def test_who_is_not_is_asked_for_it(self, said: bytes) -> None:
        dialect = heard(said, users=CLOSED)
        assert (dialect.request, dialect.refusal) == (None, Refusal.NO_LOGIN)
        answer = dialect.refuse(Refusal.NO_LOGIN)
        assert answer.startswith(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
        assert b'\r\nProxy-Authenticate: Basic realm="weft"\r\n' in answer


class TestHeads:
    @pytest.mark.parametrize("said", [b"\x16\x03\x01", b"\x04\x01\x00\x50", b"\0", b" GET", b"\r\n"])
    def test_what_is_neither_socks_nor_http_is_known_at_once(self, said: bytes) -> None:
        with pytest.raises(DecodeError):
            heard(said)

    @pytest.mark.parametrize("piece", [1000, HEAD_BYTES + 10])
    def test_head_without_an_end_is_not_waited_for(self, piece: int) -> None:
        dialect = HttpDialect(OPEN)
        with pytest.raises(DecodeError):  # noqa: PT012 - at whichever piece
            for _ in range(HEAD_BYTES // piece + 2):
                dialect.receive(b"a" * piece)

    def test_head_may_be_as_long_as_the_bound(self) -> None:
        line = b"CONNECT bob:443 HTTP/1.1\r\nX: "
        said = line + b"x" * (HEAD_BYTES - len(line)) + b"\r\n\r\n"
        assert heard(said).request is not None
        with pytest.raises(DecodeError):
            heard(said.replace(b"X: ", b"X: x"))

    @given(st.lists(st.binary(min_size=1)))
    @example([GET.replace(b"\r\nAccept", b"\r\n Accept")])
    @example([GET.replace(b"Accept:", b"Accept :")])
    @example([GET.replace(b"*/*", b"\0")])
    @example([GET.replace(b"\r\nAccept", b"\nAccept")])
    def test_anything_is_a_request_or_a_decode_error(self, pieces: list[bytes]) -> None:
        for begin in (b"", b"GET http://a/ HTTP/1.1\r\n"):
            dialect = HttpDialect(OPEN)
            try:
                for piece in [begin, *pieces, b"\r\n\r\n"]:
                    if piece and dialect.request is None:
                        dialect.receive(piece)
            except DecodeError:
                continue
            assert dialect.request is not None

    @given(
        st.sampled_from(["GET", "POST", "M-SEARCH", "get"]),
        st.lists(st.tuples(st.text("aZ-9_ :~\t", min_size=1, max_size=8), st.text("aé ,:\t\x00\x7f\r", max_size=8))),
    )
    def test_another_reader_sees_the_same_in_what_is_taken(self, method: str, fields: list[tuple[str, str]]) -> None:
        head = "\r\n".join([f"{method} /x HTTP/1.1", "Host: a", *(f"{name}:{value}" for name, value in fields)])
        try:
            said = head.encode("latin-1")
            *_, ours = decode_head(head)
        except (DecodeError, UnicodeEncodeError):
            return
        lower = [name.lower() for name, _ in ours]
        # About these h11 has rules of its own.
        assume(not {"content-length", "transfer-encoding"} & set(lower) and lower.count("host") == 1)
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(said + b"\r\n\r\n")
        event = reader.next_event()
        assert isinstance(event, h11.Request)
        assert event.method.decode() == method
        assert [(n.lower().decode(), v.decode("latin-1")) for n, v in event.headers] == [
            (name.lower(), value) for name, value in ours
        ]


class TestAuthority:
    @given(
        st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True)),
        st.integers(1, 65_535),
    )
    def test_decode_of_encode_is_the_same(self, host: str, port: int) -> None:
        assert decode_authority(encode_authority(host, port), 80) == (host, port)


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
def test_each_refusal_is_a_whole_response(refusal: Refusal) -> None:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(heard(CONNECT).refuse(refusal))
    response, body, end = reader.next_event(), reader.next_event(), reader.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == refusal.status >= 400
    assert isinstance(body, h11.Data)
    assert body.data.decode() == f"weft proxy: {refusal.words}\n"
    assert isinstance(end, h11.EndOfMessage)
