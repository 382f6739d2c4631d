"""Names that no server is asked for.

| host                             | addresses                                                        |
|----------------------------------|------------------------------------------------------------------|
| 192.0.2.1, 2001:db8::1           | itself                                                           |
| a peer id: 12D3KooW…, k51…       | the one that follows from the key (`identity.py`)                |
| k51….weft, in any case           | the same: the name is the key                                    |
| NAME.weft                        | those of the peer which is called so here; no such name if none  |
| NAME                             | the same, if there is such a peer                                |
| localhost, anything.localhost    | ::1, 127.0.0.1                                                   |
| a host that was given            | as given                                                         |
| any other                        | not known here                                                   |

A name below `weft` never leaves the node, whether or not it is known: who is asked for is nobody's business, and no
server may say who a peer is. A dot at the end changes nothing.

Source: RFC 6761 section 6.3 (localhost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address

from weft.errors import DecodeError
from weft.identity import DNS_LABEL_CHARACTERS, PEER_ID_CHARACTERS, PeerId
from weft.stack.addresses import LOOPBACK_V4, LOOPBACK_V6

DOMAIN = "weft"
LOCALHOST = (LOOPBACK_V6, LOOPBACK_V4)


class Names:
    """What one node knows.

    Args:
        peer: gives the addresses of the peer that is called so, in any case; none if there is no such peer.
        hosts: addresses of hosts by name.
    """

    def __init__(
        self, peer: Callable[[str], Iterable[bytes]] | None = None, hosts: Mapping[str, Sequence[bytes]] | None = None
    ) -> None:
        self._peer = peer
        self._hosts = {host.lower().rstrip("."): tuple(addresses) for host, addresses in (hosts or {}).items()}

    def look_up(self, host: str) -> tuple[bytes, ...] | None:
        """The addresses of a host.

        Returns:
            4 or 16 bytes each, the best first; none of a host that does not exist; None if it is not known here.
        """
        try:
            return (ip_address(host).packed,)
        except ValueError:
            pass
        if len(host) in {PEER_ID_CHARACTERS, DNS_LABEL_CHARACTERS} and (address := _address_of_key(host)):
            return (address,)
        name = host.lower().removesuffix(".")
        if name in self._hosts:
            return self._hosts[name]
        label, _, domain = name.rpartition(".")
        if domain == "localhost":
            return LOCALHOST
        if domain != DOMAIN:
            return self._addresses_of(name) or None
        if len(label) == DNS_LABEL_CHARACTERS and (address := _address_of_key(label)):
            return (address,)
        return self._addresses_of(label)

    def _addresses_of(self, peer: str) -> tuple[bytes, ...]:
        return tuple(self._peer(peer)) if peer and self._peer is not None else ()


def _address_of_key(text: str) -> bytes | None:
    try:
        return PeerId.from_text(text).address
    except DecodeError:
        return None
