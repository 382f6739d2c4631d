"""Rules: what peers may reach, and how people write it.

| text | allows |
|---|---|
| `/tcp/80` | connections to TCP port 80 |
| `/udp/53` | datagrams to UDP port 53 |
| `/tcp/0`, `/udp/0` | the same, to all ports |
| `/icmp` | echo requests, of both versions of ICMP |

A rule says what, not who: whose packets it holds for is up to what keeps the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from weft.errors import DecodeError, UsageError
from weft.packet.protocols import ICMP, ICMPV6, TCP, UDP

ALL_PORTS: Final = 0

_NUMBERS: Final[dict[str, tuple[int, ...]]] = {"tcp": (TCP,), "udp": (UDP,), "icmp": (ICMP, ICMPV6)}
_EXAMPLES: Final = "/tcp/80, /udp/53, /tcp/0 or /udp/0 for all ports, or /icmp"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is allowed in.

    Attributes:
        protocol: "tcp", "udp" or "icmp".
        port: 1 to 65,535, or `ALL_PORTS`; always that for ICMP.

    Raises:
        UsageError: there is no such rule.
    """

    protocol: str
    port: int = ALL_PORTS

    def __post_init__(self) -> None:
        if self.protocol not in _NUMBERS:
            raise UsageError(f"a rule is for tcp, udp or icmp, not {self.protocol!r}")
        if not 0 <= self.port <= (0 if self.protocol == "icmp" else 0xFFFF):
            raise UsageError(f"a rule for {self.protocol} can't have port {self.port}")

    def openings(self) -> frozenset[tuple[int, int]]:
        """What it opens, as pairs of IP protocol number and port."""
        return frozenset((number, self.port) for number in _NUMBERS[self.protocol])


def decode_rule(text: str) -> Rule:
    """Read a rule as people write it.

    Args:
        text: one of the forms above, exactly: lower case, no spaces, no leading zeros, so that each rule has one text.

    Raises:
        DecodeError: with one line that says what is wrong and what to write instead.
    """
    slash, protocol, *port = text.split("/", 2) if text.startswith("/") else ("", "", text)
    if slash or protocol not in _NUMBERS:
        raise DecodeError(f"a rule like {_EXAMPLES}, not {text[:40]!r},", offset=min(len(text), 1))
    after = len(protocol) + 2
    if protocol == "icmp":
        if port:
            raise DecodeError("nothing after /icmp, which has no ports: write just /icmp,", offset=after - 1)
        return Rule(protocol)
    if not port:
        raise DecodeError(
            f"a port: write /{protocol}/80 for port 80, or /{protocol}/0 for all ports,", offset=after - 1
        )
    if not _is_port(port[0]):
        raise DecodeError(
            f"a port from 1 to 65535, or 0 for all ports, after /{protocol}/, not {port[0][:40]!r},", offset=after
        )
    return Rule(protocol, int(port[0]))


def encode_rule(rule: Rule) -> str:
    """The text of a rule; `decode_rule` gives the rule back."""
    return "/icmp" if rule.protocol == "icmp" else f"/{rule.protocol}/{rule.port}"


class RuleSet:
    """What a set of rules allows."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = dict.fromkeys(rules)
        self._apply()

    def __iter__(self) -> Iterator[Rule]:
        """The rules in the order in which they came."""
        return iter(self._rules)

    def allow(self, rule: Rule) -> None:
        """Add a rule; nothing changes if it is there already."""
        self._rules[rule] = None
        self._apply()

    def deny(self, rule: Rule) -> None:
        """Take a rule away, exactly as it was given.

        Raises:
            UsageError: it is not there.
        """
        if rule not in self._rules:
            allowed = " ".join(map(encode_rule, self._rules)) or "nothing"
            raise UsageError(f"{encode_rule(rule)} is not among the rules; allowed now: {allowed}")
        del self._rules[rule]
        self._apply()

    def allows(self, protocol: int, port: int) -> bool:
        """Whether something may come in by rule.

        Args:
            protocol: IP protocol number.
            port: destination port, 0 for protocols without ports.
        """
        return (protocol, port) in self._openings or (protocol, ALL_PORTS) in self._openings

    def _apply(self) -> None:
        self._openings = frozenset[tuple[int, int]]().union(*(rule.openings() for rule in self._rules))


def _is_port(text: str) -> bool:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return False
    return int(text) <= 0xFFFF and str(int(text)) == text
