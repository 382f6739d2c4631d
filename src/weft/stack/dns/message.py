"""Questions of DNS for addresses, and whether a message is the reply to one.

A name is text here: the labels of a host name in lower case with dots between them, "xn--…" where they are not ASCII.
The question goes out in a random mix of upper and lower case, which servers give back as it is: with the id and the
port some 10 to 20 bits more that who can't see the question has to guess. So a reply is held against it byte by byte
before anything in it is decoded.

    0    2     id
    2    2     QR, opcode, AA, TC, RD, RA, rcode
    4    8     counts of records: question, answer, authority, additional
    12   n     the question: name, type, class
    ..         records (`reply.py`)

Sources: RFC 1035 section 4.1, RFC 5452 section 9, RFC 6891, RFC 9715 (1232 bytes), draft-vixie-dnsext-dns0x20; host
names by RFC 1123 section 2.1, with the underscore that is met in practice.
Not done here: DNSSEC; types that are no addresses.
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum
from typing import Final, NamedTuple

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from dns.rdatatype import RdataType

HEADER_BYTES: Final = 12
RANDOM_BYTES: Final = 34
"""What one question takes: its id, and a bit for each byte of the longest name."""
EDNS_PAYLOAD_BYTES: Final = 1232
MAX_NAME_CHARACTERS: Final = 254
"""With a dot at the end."""

_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


class Kind(IntEnum):
    """Which addresses are asked for."""

    A = dns.rdatatype.A
    AAAA = dns.rdatatype.AAAA

    @property
    def address_bytes(self) -> int:
        """Length of such an address."""
        return 4 if self is Kind.A else 16


class Standing(Enum):
    """What the head of a message is to a question; the text of those that are not taken is the reason of the drop."""

    SHORT = "answer: short"
    OTHER_ID = "answer: id"
    NO_RESPONSE = "answer: no response"
    OTHER_QUESTION = "answer: question"
    OTHER_CASE = "answer: case of the question"
    TRUNCATED = "answer: truncated"
    UNSUPPORTED = "answer: FORMERR or NOTIMP"
    FAILED = "answer: failure"
    GOOD = "answer"


class Query(NamedTuple):
    """A question, encoded."""

    message: bytes
    question: bytes
    """The part of the message that every reply repeats."""


def canonical_name(text: str) -> str | None:
    """The name as it is compared and asked for, or None if it is no host name."""
    if len(text) > MAX_NAME_CHARACTERS:
        return None
    try:
        return host_name(dns.name.from_text(text))
    except (dns.exception.DNSException, ValueError):
        return None


def encode_query(name: str, kind: Kind, random: bytes, *, with_edns: bool) -> Query:
    """Encode a question that wants recursion.

    Args:
        name: canonical.
        kind: of addresses.
        random: `RANDOM_BYTES` bytes.
        with_edns: whether to say that replies may be longer than 512 bytes.
    """
    bits = int.from_bytes(random[2:], "big")
    mixed = "".join(letter.upper() if bits >> at & 1 else letter for at, letter in enumerate(name))
    owner = dns.name.Name([*(label.encode() for label in mixed.split(".")), b""])
    version = 0 if with_edns else -1
    identifier = int.from_bytes(random[:2], "big")
    query = dns.message.make_query(owner, RdataType(kind), use_edns=version, payload=EDNS_PAYLOAD_BYTES, id=identifier)
    message = query.to_wire()
    return Query(message, message[HEADER_BYTES : HEADER_BYTES + len(name) + 2 + 4])


def standing_of(data: bytes, query: Query, *, is_stream: bool) -> Standing:
    """Compare a message with a question; nothing behind the question is looked at.

    A failure without any question is taken too: so answer servers that could not read ours. On a stream the letters
    do not matter, for nobody else can write there; nor does the bit that says there is more, for there is not.
    """
    if len(data) < HEADER_BYTES:
        return Standing.SHORT
    if data[:2] != query.message[:2]:
        return Standing.OTHER_ID
    if data[2] & 0xF8 != 0x80:
        return Standing.NO_RESPONSE
    rcode = data[3] & 0x0F
    is_unsupported = rcode in {dns.rcode.FORMERR, dns.rcode.NOTIMP}
    questions = int.from_bytes(data[4:6], "big")
    if is_unsupported and not questions:
        return Standing.UNSUPPORTED
    question = data[HEADER_BYTES : HEADER_BYTES + len(query.question)]
    if questions != 1 or question.lower() != query.question.lower():
        return Standing.OTHER_QUESTION
    if question != query.question and not is_stream:
        return Standing.OTHER_CASE
    if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return Standing.UNSUPPORTED if is_unsupported else Standing.FAILED
    return Standing.TRUNCATED if data[2] & 0x02 and not is_stream else Standing.GOOD


def host_name(name: dns.name.Name) -> str | None:
    """A decoded name as canonical text, or None if it is none of a host."""
    text = name.canonicalize().to_text(omit_final_dot=True)
    return text if _HOST_NAME.fullmatch(text) else None
