"""Where a peer may be: the endpoints that a person named and those that it proved, newest first.

They are kept as people write them, which is as multiaddrs without the peer. A name stays a name: it is resolved anew
each time, and while a peer is where its name led, the name stands for it. A name may lead to several addresses: they
have their turns.

Not done here: resolving and calling (dial.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from weft.io.store import ENDPOINTS
from weft.multiaddr import Multiaddr

Found = TypeVar("Found")


class Endpoints:
    """The known endpoints of one peer, at most `ENDPOINTS`.

    Those that a person named are pushed out by others of their kind only.
    """

    def __init__(self, known: Iterable[Multiaddr] = (), configured: Iterable[Multiaddr] = ()) -> None:
        """Take what the store kept.

        Args:
            known: newest first.
            configured: those among them that a person named.
        """
        self._known = list(known)
        self._configured = set(configured)
        self._led_to: dict[Multiaddr, tuple[Multiaddr, ...]] = {}
        self._turns: Counter[Multiaddr] = Counter()
        self._aimed_at: Multiaddr | None = None
        self._heard_bytes = 0

    @property
    def known(self) -> list[Multiaddr]:
        """All, newest first."""
        return list(self._known)

    @property
    def configured(self) -> list[Multiaddr]:
        """Those that a person named, newest first."""
        return [address for address in self._known if address in self._configured]

    def configure(self, address: Multiaddr) -> None:
        """A person named an endpoint; a number that was learned and that its name led to goes."""
        self._configured.add(address)
        self._put_first(address)

    def lead(self, name: Multiaddr, *addresses: Multiaddr) -> None:
        """A name was resolved, to as many addresses."""
        self._led_to[name] = addresses

    def prove(self, address: Multiaddr) -> bool:
        """The peer answered from an address; returns whether that was not the newest endpoint before."""
        address = self.spelled(address)
        is_news = self._known[:1] != [address]
        self._put_first(address)
        return is_news

    def spelled(self, address: Multiaddr) -> Multiaddr:
        """The name that led to an address, or the address itself."""
        led_there = (name for name, found in self._led_to.items() if address in found and name in self._configured)
        return next(led_there, address)

    def is_silent(self, rx_bytes: int) -> bool:
        """Whether nothing has come from the peer since this was asked last.

        Args:
            rx_bytes: all that came until now.
        """
        is_silent = rx_bytes == self._heard_bytes
        self._heard_bytes = rx_bytes
        return is_silent

    def may_try(self, address: Multiaddr, *, is_up: bool) -> bool:
        """Whether a peer may be looked for at a known endpoint; see `next_to_try`."""
        return not is_up or address == self._known[0] or address in self._configured

    def next_to_try(self, *, is_up: bool) -> Multiaddr | None:
        """Where to look next for a peer that does not answer; in turn, beginning with the newest.

        Args:
            is_up: whether there is a session, whose data would go along: then only to the newest endpoint and to those
                that a person named.
        """
        candidates = [each for each in self._known if self.may_try(each, is_up=is_up)]
        if not candidates:
            return None
        tried = candidates.index(self._aimed_at) if self._aimed_at in candidates else -1
        self._aimed_at = candidates[(tried + 1) % len(candidates)]
        return self._aimed_at

    def take_turn(self, address: Multiaddr, found: Sequence[Found]) -> Found:
        """Of what an address led to, as names lead to several, another one each time."""
        turn = self._turns[address]
        self._turns[address] += 1
        return found[turn % len(found)]

    def _put_first(self, address: Multiaddr) -> None:
        """Newest first; what a name stands for does not stand beside it."""
        others = [each for each in self._known if each != address and self.spelled(each) != address]
        if len(others) >= ENDPOINTS:
            learned = [each for each in others if each not in self._configured]
            if address not in self._configured and not learned:
                return
            oldest = (learned or others)[-1]
            others.remove(oldest)
        self._known = [address, *others]
        self._configured &= set(self._known)
        self._led_to = {name: found for name, found in self._led_to.items() if name in self._known}
        self._turns = Counter({each: turn for each, turn in self._turns.items() if each in self._known})
