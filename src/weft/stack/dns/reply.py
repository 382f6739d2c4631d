"""Replies of DNS: what one says about the name that was asked for.

Only what answers the question is taken: the aliases that begin at its name, the addresses at their end, and the SOA of
a zone that holds that end. All else, such as addresses that nobody asked for, is stepped over and not decoded; so is
the additional section. That also bounds what a message can cost, which `dns.message` does not.

    0    n     owner
    n    2     type
    n+2  2     class
    n+4  4     TTL, seconds
    n+8  2     length of the data
    n+10 ..    A, AAAA: the address; CNAME: a name; SOA: two names and five numbers, the last being MINIMUM

| rcode    | at the end of the aliases                 | then                                   |
|----------|-------------------------------------------|----------------------------------------|
| NOERROR  | addresses                                 | found                                  |
| NOERROR  | nothing, but the SOA of a zone above it   | there are none (NODATA)                |
| NOERROR  | nothing, and there were aliases           | their target has to be asked for       |
| NOERROR  | nothing, but NS, and AA is not set        | refused: it refers to other servers    |
| NOERROR  | nothing                                   | there are none, not to be remembered   |
| NXDOMAIN | addresses                                 | refused: it contradicts itself         |
| NXDOMAIN | nothing                                   | the name does not exist                |

Sources: RFC 1035 section 4.1, RFC 2181 sections 5.2 and 8, RFC 2308 sections 2 and 5.
Not done here: extended results (RFC 6891 section 6.1.3), which answer options that are not sent.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

import dns.exception
import dns.name
import dns.rcode
import dns.wire
from dns.rdataclass import IN
from dns.rdatatype import CNAME, NS, SOA

from weft.errors import DecodeError
from weft.stack.dns.message import HEADER_BYTES, Kind, host_name

MAX_RECORDS: Final = 512
"""Of answer and authority; the worst of them take some 0.1 s."""
MAX_ADDRESSES: Final = 64
MAX_ALIASES: Final = 8
MAX_TTL_S: Final = 0x7FFFFFFF
"""Longer ones are none at all (RFC 2181 section 8)."""

_COUNTS = Struct("!HHH")
_RECORD = "!HHIH"
_SOA_NUMBERS = 20
_AA = 0x04


class Reply(NamedTuple):
    """What a reply says about the name that was asked for."""

    aliases: tuple[str, ...]
    """The names that it led to, one after the other; at most one more than `MAX_ALIASES`, and maybe in a loop."""
    addresses: tuple[bytes, ...]
    """Those of the last name, at most `MAX_ADDRESSES`."""
    is_final: bool
    """Whether that is all; else the last of the aliases has to be asked for."""
    exists: bool
    """False if the last name does not exist (NXDOMAIN); without addresses else, it has none of this kind (NODATA)."""
    ttl_s: int
    """How long this may be remembered; 0 if not at all."""


class _Records:
    """Those of a message that may matter, by owner."""

    __slots__ = ("addresses", "aliases", "has_ns", "zones")

    def __init__(self) -> None:
        self.addresses: dict[dns.name.Name, dict[bytes, int]] = {}
        self.aliases: dict[dns.name.Name, tuple[dns.name.Name, int]] = {}
        self.zones: dict[dns.name.Name, int] = {}
        self.has_ns = False


def decode_reply(data: bytes, name: str, kind: Kind) -> Reply:
    """Decode a message that stands good to the question for that name.

    Args:
        data: the whole message.
        name: canonical.
        kind: of addresses.

    Raises:
        DecodeError: It is malformed, has too many records, or is refused by the table above.
    """
    try:
        records = _decode_records(data, kind)
    except dns.exception.DNSException as error:
        raise DecodeError("records of DNS", offset=HEADER_BYTES) from error
    owner, ttl_s = dns.name.from_text(name), MAX_TTL_S
    aliases: list[str] = []
    while owner not in records.addresses and owner in records.aliases and len(aliases) <= MAX_ALIASES:
        owner, alias_ttl_s = records.aliases[owner]
        text = host_name(owner)
        if text is None:
            raise DecodeError("the name of a host as the target of an alias")
        aliases.append(text)
        ttl_s = min(ttl_s, alias_ttl_s)
    exists = data[3] & 0x0F == dns.rcode.NOERROR
    found = records.addresses.get(owner)
    if found is None:
        return _without_addresses(
            records, owner, tuple(aliases), ttl_s, exists=exists, is_authority=bool(data[2] & _AA)
        )
    if not exists:
        raise DecodeError("no addresses of a name that does not exist")
    return Reply(tuple(aliases), tuple(found)[:MAX_ADDRESSES], True, True, min(ttl_s, *found.values()))


def _without_addresses(
    records: _Records, owner: dns.name.Name, aliases: tuple[str, ...], ttl_s: int, *, exists: bool, is_authority: bool
) -> Reply:
    absent_ttl_s = max((ttl for zone, ttl in records.zones.items() if owner.is_subdomain(zone)), default=None)
    if absent_ttl_s is not None or not exists:
        return Reply(aliases, (), True, exists, min(ttl_s, absent_ttl_s or 0))
    if aliases:
        return Reply(aliases, (), False, True, ttl_s)
    if records.has_ns and not is_authority:
        raise DecodeError("an answer and no referral")
    return Reply((), (), True, True, 0)


def _decode_records(data: bytes, kind: Kind) -> _Records:
    """Walk through the sections answer and authority."""
    questions, answers, authorities = _COUNTS.unpack_from(data, 4)
    if answers + authorities > MAX_RECORDS:
        raise DecodeError(f"at most {MAX_RECORDS} records", offset=6)
    records = _Records()
    parser = dns.wire.Parser(data, HEADER_BYTES)
    for _ in range(questions):
        dns.name.from_wire_parser(parser)
        parser.get_bytes(4)
    for number in range(answers + authorities):
        owner = dns.name.from_wire_parser(parser)
        rdtype, rdclass, ttl_s, length = parser.get_struct(_RECORD)
        ttl_s = ttl_s if ttl_s <= MAX_TTL_S else 0
        if rdclass != IN:
            parser.get_bytes(length)
        elif number < answers:
            _decode_answer(parser, records, owner, rdtype, length, ttl_s, kind)
        else:
            value = parser.get_bytes(length)
            records.has_ns |= rdtype == NS
            if rdtype == SOA and length > _SOA_NUMBERS:
                records.zones[owner] = min(ttl_s, int.from_bytes(value[-4:], "big"))
    return records


def _decode_answer(
    parser: dns.wire.Parser, records: _Records, owner: dns.name.Name, rdtype: int, length: int, ttl_s: int, kind: Kind
) -> None:
    if rdtype == CNAME:
        with parser.restrict_to(length):
            records.aliases.setdefault(owner, (dns.name.from_wire_parser(parser), ttl_s))
        return
    value = parser.get_bytes(length)
    if rdtype == kind:
        if length != kind.address_bytes:
            raise DecodeError(f"an address of {kind.address_bytes} bytes", offset=parser.current)
        records.addresses.setdefault(owner, {}).setdefault(value, ttl_s)
