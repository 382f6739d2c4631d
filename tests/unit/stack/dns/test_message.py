"""Questions on the wire, and what dnspython makes of them."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import DecodeError
from weft.stack.dns.message import RANDOM_BYTES, Kind, Standing, canonical_name, encode_query, standing_of
from weft.stack.dns.reply import MAX_ALIASES, decode_reply

LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join).filter(lambda name: len(name) <= 253)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_dmarc.example", "_dmarc.example"),
        ("a" * 63, "a" * 63),
        ("a" * 64, None),
        (".".join(["a" * 63] * 4), None),
        (".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),
        ("a..b", None),
        ("a b", None),
        ("a\0b", None),
        (r"a\.b", None),
        (r"a\999", None),
        ("", None),
        (".", None),
        ("@", None),
        ("*.example", None),
        ("x." * 100_000, None),
    ],
)
def test_host_names_have_one_form(text: str, name: str | None) -> None:
    assert canonical_name(text) == name


@given(st.text(max_size=80))
def test_any_text_has_a_stable_form_or_none(text: str) -> None:
    name = canonical_name(text)
    assert name is None or canonical_name(name) == name


@given(HOSTS, st.sampled_from(Kind), st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES), st.booleans())
def test_question_is_what_dnspython_reads(name: str, kind: Kind, random: bytes, with_edns: bool) -> None:
    query = encode_query(name, kind, random, with_edns=with_edns)
    message = dns.message.from_wire(query.message)
    assert message.id == int.from_bytes(random[:2], "big")
    assert message.flags == dns.flags.RD
    assert message.question[0].name.canonicalize().to_text() == f"{name}."
    assert message.question[0].rdtype == dns.rdatatype.RdataType(kind)
    assert (message.edns, message.payload) == ((0, 1232) if with_edns else (-1, 0))
    reply = dns.message.make_response(message).to_wire()
    assert standing_of(reply, query, is_stream=False) is Standing.GOOD
    assert decode_reply(reply, name, kind).addresses == ()


def test_each_letter_is_mixed_by_a_bit_of_its_own() -> None:
    name = ".".join(["a" * 63] * 3 + ["a" * 61])
    ones = encode_query(name, Kind.A, b"\0\0" + b"\xff" * 32, with_edns=True)
    zeros = encode_query(name, Kind.A, bytes(RANDOM_BYTES), with_edns=True)
    assert ones.question.count(b"A") == zeros.question.count(b"a") == 250
    mixed = encode_query(name, Kind.A, Random(1).randbytes(RANDOM_BYTES), with_edns=True)
    assert 80 < mixed.question.count(b"A") < 170


@given(st.binary(max_size=200), st.booleans())
def test_any_message_has_a_standing(data: bytes, is_stream: bool) -> None:
    query = encode_query("a.example", Kind.A, bytes(RANDOM_BYTES), with_edns=True)
    assert standing_of(data, query, is_stream=is_stream) in Standing


@given(st.binary(max_size=300))
def test_reply_of_any_bytes_fails_by_decode_error_only(tail: bytes) -> None:
    query = encode_query("a.example", Kind.A, bytes(RANDOM_BYTES), with_edns=False)
    for counts in (b"\0\x01\0\0\0\0", b"\0\x02\0\x02\0\0", tail[:6].ljust(6, b"\0")):
        with suppress(DecodeError):
            reply = decode_reply(query.message[:6] + counts + query.question + tail, "a.example", Kind.A)
            assert len(reply.aliases) <= MAX_ALIASES + 1
