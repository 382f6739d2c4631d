"""SOCKS5 without input or output: whatever comes, in whichever pieces."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.clients.proxy.request import Command, Refusal, Request
from weft.clients.proxy.socks import (
    SocksDialect,
    decode_datagram,
    encode_address,
    encode_datagram_header,
    encode_reply,
)
from weft.clients.proxy.users import Users
from weft.errors import DecodeError

OPEN = Users()
CLOSED = Users({b"anna": b"s3cret"})
GREETING = b"\x05\x01\x00"
LOGIN = b"\x05\x02\x00\x02" + b"\x01\x04anna\x06s3cret"
BOB = b"\x05\x01\x00\x03\x08bob.weft\x00\x50"

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ports = st.integers(0, 65_535)
names = st.text(st.characters(codec="utf-8", categories=("L", "N"), include_characters="-._"), min_size=1).filter(
    lambda name: len(name.encode()) <= 255
)


def heard(dialect: SocksDialect, *pieces: bytes) -> bytes:
    """What the pieces are answered, as long as there are answers to give."""
    answer = b""
    for piece in pieces:
        if dialect.request is None and dialect.refusal is None:
            answer += dialect.receive(piece)
        else:
            dialect.first += piece
    return answer


def asking_for(host: str, port: int, command: int = 1) -> bytes:
    try:
        target = encode_address(host, port)
    except ValueError:
        name = host.encode()
        target = bytes((3, len(name))) + name + port.to_bytes(2, "big")
    return bytes((5, command, 0)) + target


class TestRequests:
    @given(st.one_of(addresses, names), ports, st.sampled_from([(1, Command.CONNECT), (3, Command.UDP_ASSOCIATE)]))
    def test_what_is_asked_for(self, host: str, port: int, command: tuple[int, Command]) -> None:
        dialect = SocksDialect(OPEN)
        assert dialect.receive(GREETING) == b"\x05\x00"
        assert dialect.receive(asking_for(host, port, command[0])) == b""
        assert dialect.request == Request(command[1], host, port)
        assert dialect.first == b""

    @pytest.mark.parametrize("said", [GREETING + BOB + b"hello", LOGIN + BOB + b"hello"], ids=["open", "login"])
    def test_every_split_is_understood_alike(self, said: bytes) -> None:
        users = CLOSED if b"anna" in said else OPEN
        whole = SocksDialect(users)
        answer = heard(whole, said)
        assert whole.request == Request(Command.CONNECT, "bob.weft", 80)
        assert whole.first == b"hello"
        for one in range(len(said)):
            for other in range(one, len(said)):
                pieces = SocksDialect(users)
                assert heard(pieces, said[:one], said[one:other], said[other:]) == answer
                assert (pieces.request, pieces.first) == (whole.request, b"hello")
        single = SocksDialect(users)
        assert heard(single, *(said[at : at + 1] for at in range(len(said)))) == answer
        assert (single.request, single.first) == (whole.request, b"hello")

    @given(st.lists(st.binary(min_size=1, max_size=300)), st.booleans(), st.booleans())
    def test_anything_is_a_request_a_refusal_or_a_decode_error(
        self, pieces: list[bytes], is_open: bool, begins_well: bool
    ) -> None:
        dialect = SocksDialect(OPEN if is_open else CLOSED)
        begin = (GREETING if is_open else LOGIN) if begins_well else b""
        try:
            heard(dialect, begin, *pieces)
        except DecodeError:
            pass
        else:
            assert dialect.request is None or dialect.refusal is None
        for refusal in Refusal:
            assert dialect.refuse(refusal)[:1] in {b"\x05", b"\x01"}

    @pytest.mark.parametrize("said", [b"\x04", b"\x05\x01\x00\x04", GREETING + b"\x04\x01\x00\x01", b"GET / HTTP/1.1"])
    def test_other_versions_are_no_socks5(self, said: bytes) -> None:
        with pytest.raises(DecodeError, match="expected version 5 at offset"):
            SocksDialect(OPEN).receive(said + bytes(10))

    @pytest.mark.parametrize("name", [b"", b"\xff", b"a b", b"/ip4/1.2.3.4", b"a\0b", b"a\nb", b"fe80::1%eth0"])
    def test_what_is_no_name_is_refused(self, name: bytes) -> None:
        with pytest.raises(DecodeError, match="name"):
            SocksDialect(OPEN).receive(GREETING + b"\x05\x01\x00\x03" + bytes((len(name),)) + name + b"\x00\x50")


class TestRefusals:
    @pytest.mark.parametrize("command", [0, 2, 4, 255])
    def test_command_that_is_not_done_here(self, command: int) -> None:
        dialect = SocksDialect(OPEN)
        dialect.receive(GREETING + asking_for("192.0.2.1", 80, command))
        assert (dialect.request, dialect.refusal) == (None, Refusal.COMMAND)
        assert dialect.refuse(Refusal.COMMAND) == b"\x05\x07\x00\x01" + bytes(6)

    @pytest.mark.parametrize("kind", [0, 2, 5, 255])
    def test_address_of_another_kind(self, kind: int) -> None:
        dialect = SocksDialect(OPEN)
        dialect.receive(GREETING + bytes((5, 1, 0, kind)))
        assert dialect.refusal is Refusal.ADDRESS_TYPE
        assert dialect.refuse(Refusal.ADDRESS_TYPE) == b"\x05\x08\x00\x01" + bytes(6)

    @pytest.mark.parametrize(
        ("users", "greeting"),
        [(OPEN, b"\x05\x00"), (OPEN, b"\x05\x02\x01\x02"), (CLOSED, GREETING)],
        ids=["no method", "only others", "no login offered"],
    )
    def test_no_method_in_common(self, users: Users, greeting: bytes) -> None:
        dialect = SocksDialect(users)
        assert dialect.receive(greeting) == b""
        assert dialect.refusal is Refusal.NO_LOGIN
        assert dialect.refuse(Refusal.NO_LOGIN) == b"\x05\xff"

    @pytest.mark.parametrize("login", [b"\x04anna\x06secret", b"\x03ann\x06s3cret", b"\x00\x00", b"\x04anna\x00"])
    def test_wrong_password(self, login: bytes) -> None:
        dialect = SocksDialect(CLOSED)
        assert dialect.receive(b"\x05\x01\x02\x01" + login) == b"\x05\x02"
        assert (dialect.request, dialect.refusal) == (None, Refusal.NO_LOGIN)
        assert dialect.refuse(Refusal.NO_LOGIN) == b"\x01\x01"

    def test_codes_are_those_of_the_rfc(self) -> None:
        dialect = SocksDialect(OPEN)
        dialect.receive(GREETING + BOB)
        codes = {refusal: dialect.refuse(refusal)[1] for refusal in Refusal}
        assert codes[Refusal.NETWORK_UNREACHABLE] == 3
        assert codes[Refusal.HOST_UNREACHABLE] == 4
        assert codes[Refusal.REFUSED] == 5
        assert codes[Refusal.TIMED_OUT] == 6
        assert set(codes.values()) <= set(range(1, 9))


class TestReplies:
    @given(addresses, ports)
    def test_reply_has_the_address(self, host: str, port: int) -> None:
        reply = encode_reply(0, host, port)
        packed = ip_address(host).packed
        assert reply == b"\x05\x00\x00" + (b"\x01" if len(packed) == 4 else b"\x04") + packed + port.to_bytes(2, "big")

    def test_scope_is_left_out(self) -> None:
        assert encode_address("fe80::1%eth0", 1) == encode_address("fe80::1", 1)


class TestDatagrams:
    @given(addresses, ports, st.binary())
    def test_decode_of_encode_is_the_same(self, host: str, port: int, payload: bytes) -> None:
        assert decode_datagram(encode_datagram_header(host, port) + payload) == (0, host, port, payload)

    @given(names, ports, st.binary(), st.integers(0, 255))
    def test_name_and_fragment(self, name: str, port: int, payload: bytes, fragment: int) -> None:
        text = name.encode()
        data = bytes((0, 0, fragment, 3, len(text))) + text + port.to_bytes(2, "big") + payload
        assert decode_datagram(data) == (fragment, name, port, payload)

    @given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda data: b"\0\0\0\3" + data)))
    def test_anything_else_is_a_decode_error(self, data: bytes) -> None:
        try:
            fragment, host, port, payload = decode_datagram(data)
        except DecodeError:
            return
        assert host
        assert 0 <= port <= 65_535
        assert data.endswith(payload)
        assert fragment == data[2]

    @pytest.mark.parametrize(
        "address", [encode_address("192.0.2.1", 80), encode_address("fc00::1", 80), b"\3\1a\0\x50"]
    )
    def test_every_header_that_is_cut_off_is_a_decode_error(self, address: bytes) -> None:
        for length in range(3 + len(address)):
            with pytest.raises(DecodeError):
                decode_datagram((bytes(3) + address)[:length])
        assert decode_datagram(bytes(3) + address).payload == b""
