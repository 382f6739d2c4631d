"""A server made of dnspython: it knows records, follows aliases among them, and says what it does not know."""

from __future__ import annotations

from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

SOA = "example. 600 IN SOA ns.example. admin.example. 1 3600 600 86400 300"


def rrsets_of(records: str) -> list[dns.rrset.RRset]:
    """The sets that records make, each a line: name, TTL, class, type, data."""
    found: dict[tuple[str, str, str], dns.rrset.RRset] = {}
    for line in filter(str.strip, records.splitlines()):
        name, ttl, rdclass, rdtype, rdata = line.split(maxsplit=4)
        rrset = dns.rrset.from_text(name, int(ttl), rdclass, rdtype, rdata)
        found.setdefault((name, rdclass, rdtype), rrset).update(rrset)
    return list(found.values())


class Server:
    """Answers from records.

    Args:
        records: as `rrsets_of` takes them.
    """

    def __init__(self, records: str) -> None:
        self.rrsets = rrsets_of(f"{SOA}\n{records}")

    def answer(self, data: bytes, *, is_stream: bool = False) -> bytes:
        """The reply to a question, cut to what fits and marked so if it came as a datagram."""
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query, recursion_available=True)
        reply.answer = list(self._chain(query.question[0].name, query.question[0].rdtype))
        owner = query.question[0].name
        for rrset in reply.answer:
            if rrset.rdtype == dns.rdatatype.CNAME:
                owner = rrset[0].target
        if not reply.answer or reply.answer[-1].rdtype == dns.rdatatype.CNAME:
            in_zone = owner.is_subdomain(dns.name.from_text("example."))
            if in_zone:
                reply.authority.append(self._get(dns.name.from_text("example."), dns.rdatatype.SOA))
            if in_zone and not any(rrset.name == owner for rrset in self.rrsets):
                reply.set_rcode(dns.rcode.NXDOMAIN)
        if is_stream:
            return reply.to_wire(max_size=65535)
        limit = query.payload if query.edns >= 0 else 512
        try:
            return reply.to_wire(max_size=limit)
        except dns.exception.TooBig:
            reply.answer, reply.authority = [], []
            reply.flags |= dns.flags.TC
            return reply.to_wire()

    def _chain(self, owner: dns.name.Name, kind: dns.rdatatype.RdataType) -> Iterator[dns.rrset.RRset]:
        for _ in range(20):
            if (found := self._get(owner, kind)) is not None:
                yield found
                return
            if (alias := self._get(owner, dns.rdatatype.CNAME)) is None:
                return
            yield alias
            owner = alias[0].target

    def _get(self, owner: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        return next((rrset for rrset in self.rrsets if rrset.name == owner and rrset.rdtype == kind), None)
