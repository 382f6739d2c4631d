"""Rules: what peers may reach, and how people write it.

| text | allows |
|---|---|
| `/tcp/80` | connections to TCP port 80 |
| `/udp/53` | datagrams to UDP port 53 |
| `/tcp/0`, `/udp/0` | the same, to all ports |
| `/icmp` | echo requests, of both versions of ICMP |
| `/tcp/80/from/KEY` | as `/tcp/80`, but for one peer only; so with each of the others |

KEY is the peer's WireGuard key, as `wg` prints it, or its peer id, which says the same: it is always written as the
key. A base64 key may have slashes, so all that follows `/from/` is the key.

The order of rules has no meaning: what one of them allows is allowed. To ask what a packet may costs four look-ups in a
dictionary, and to change a rule two, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from weft.errors import DecodeError, UsageError
from weft.identity import PeerId, decode_wireguard_key, encode_wireguard_key
from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP

ALL_PORTS: Final = 0

_NUMBERS: Final[dict[str, tuple[int, ...]]] = {"tcp": (TCP,), "udp": (UDP,), "icmp": (ICMP, ICMPV6)}
_EXAMPLES: Final = "/tcp/80, /udp/53, /tcp/0 or /udp/0 for all ports, or /icmp"
_FROM: Final = "/from/"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is allowed in.

    Attributes:
        protocol: "tcp", "udp" or "icmp".
        port: 1 to 65,535, or `ALL_PORTS`; always that for ICMP.
        source: the Noise key of the peer that it holds for, 32 bytes; None for all peers.

    Raises:
        UsageError: there is no such rule.
    """

    protocol: str
    port: int = ALL_PORTS
    source: bytes | None = None

    def __post_init__(self) -> None:
        if self.protocol not in _NUMBERS:
            raise UsageError(f"a rule is for tcp, udp or icmp, not {self.protocol!r}")
        if not 0 <= self.port <= (0 if self.protocol == "icmp" else 0xFFFF):
            raise UsageError(f"a rule for {self.protocol} can't have port {self.port}")

    def openings(self) -> list[tuple[int, int, Hashable]]:
        """What it opens: IP protocol number, port, source; no other rule has any of them."""
        return [(number, self.port, self.source) for number in _NUMBERS[self.protocol]]


def decode_peer_key(text: str) -> bytes:
    """The Noise key, 32 bytes, that a WireGuard key in base64 or a peer id stands for.

    Raises:
        DecodeError: it is neither.
    """
    return decode_wireguard_key(text) if text.endswith("=") else PeerId.from_text(text).noise_public_key


def decode_rule(text: str, key_of: Callable[[str], bytes] = decode_peer_key) -> Rule:
    """Read a rule as people write it.

    Args:
        text: one of the forms above, exactly: lower case, no spaces, no leading zeros, so that each rule has one text.
        key_of: makes a key of what follows `/from/`; raises `DecodeError` if it can't.

    Raises:
        DecodeError: with one line that says what is wrong and what to write instead.
    """
    what, is_bound, who = text.partition(_FROM)
    protocol, port = _decode_opening(what)
    if not is_bound:
        return Rule(protocol, port)
    try:
        return Rule(protocol, port, key_of(who))
    except DecodeError as error:
        at = len(what) + len(_FROM)
        raise DecodeError(f"{error.expected}, after {what}{_FROM}", offset=at) from None


def encode_rule(rule: Rule) -> str:
    """The text of a rule; `decode_rule` gives the rule back."""
    what = "/icmp" if rule.protocol == "icmp" else f"/{rule.protocol}/{rule.port}"
    return what if rule.source is None else f"{what}{_FROM}{encode_wireguard_key(rule.source)}"


def inherited(rules: Iterable[Rule], heirs: Mapping[bytes, bytes | None]) -> tuple[Rule, ...]:
    """Rules after peers have gone: what held for one of them only holds for its heir, or goes with it.

    Args:
        rules: in their order.
        heirs: the key of each peer that has gone, and of who takes its place, if somebody does.
    """
    kept: dict[Rule, None] = {}
    for rule in rules:
        heir = heirs.get(rule.source, rule.source) if rule.source is not None else None
        if heir is not None or rule.source is None:
            kept[replace(rule, source=heir)] = None
    return tuple(kept)


class RuleSet:
    """What a set of rules allows."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[Rule, None] = {}
        self._by_opening: dict[tuple[int, int, Hashable], Rule] = {}
        self.replace(rules)

    def __iter__(self) -> Iterator[Rule]:
        """The rules in the order in which they came."""
        return iter(self._rules)

    def replace(self, rules: Iterable[Rule]) -> None:
        """Have these rules, in their order, and no others."""
        self._rules.clear()
        self._by_opening.clear()
        for rule in rules:
            self.allow(rule)

    def allow(self, rule: Rule) -> None:
        """Add a rule; nothing changes if it is there already."""
        self._rules[rule] = None
        for opening in rule.openings():
            self._by_opening[opening] = rule

    def deny(self, rule: Rule) -> None:
        """Take a rule away, exactly as it was given.

        Raises:
            UsageError: it is not there.
        """
        if rule not in self._rules:
            raise UsageError(f"{encode_rule(rule)} is not among the rules")
        del self._rules[rule]
        for opening in rule.openings():
            del self._by_opening[opening]

    def matching(self, protocol: int, port: int, source: Hashable) -> Rule | None:
        """A rule by which something may come in, or None.

        Args:
            protocol: IP protocol number.
            port: destination port, 0 for protocols without ports.
            source: what stands for the peer in `Rule.source`; None for nobody in particular.
        """
        find = self._by_opening.get
        return (
            find((protocol, port, None))
            or find((protocol, ALL_PORTS, None))
            or find((protocol, port, source))
            or find((protocol, ALL_PORTS, source))
        )


def _decode_opening(text: str) -> tuple[str, int]:
    """Protocol and port of a rule."""
    slash, protocol, *port = text.split("/", 2) if text.startswith("/") else ("", "", text)
    if slash or protocol not in _NUMBERS:
        raise DecodeError(f"a rule like {_EXAMPLES}, not {text[:40]!r}", offset=min(len(text), 1))
    after = len(protocol) + 2
    if protocol == "icmp":
        if port:
            raise DecodeError("nothing after /icmp, which has no ports: write just /icmp", offset=after - 1)
        return protocol, ALL_PORTS
    if not port:
        raise DecodeError(f"a port: write /{protocol}/80 for port 80, or /{protocol}/0 for all ports", offset=after - 1)
    if not _is_port(port[0]):
        raise DecodeError(
            f"a port from 1 to 65535, or 0 for all ports, after /{protocol}/, not {port[0][:40]!r}", offset=after
        )
    return protocol, int(port[0])


def _is_port(text: str) -> bool:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return False
    return int(text) <= 0xFFFF and str(int(text)) == text
