"""requests in the network: an adapter for its sessions.

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, weft.blocking.HTTPAdapter(node))

`verify` and `cert` mean what requests says, but that `verify=True` trusts whom the system trusts. Proxies, and what the
environment says of them, are not asked: they are another network's.

Source: `requests.adapters.HTTPAdapter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests.adapters

from weft.blocking.pools import PoolManager

if TYPE_CHECKING:
    from weft.blocking.node import BlockingNode


class HTTPAdapter(requests.adapters.HTTPAdapter):
    """requests' own, in a network.

    Args:
        node: where connections are made.
        **options: of `requests.adapters.HTTPAdapter`.
    """

    def __init__(self, node: BlockingNode, **options: Any) -> None:
        self._node = node
        super().__init__(**options)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        """Make the pools."""
        self.poolmanager = PoolManager(self._node, num_pools=connections, maxsize=maxsize, block=block, **pool_kwargs)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request, by no proxy."""
        # After a redirect requests tells what the environment has for a proxy, which is no business of a peer.
        request.headers.pop("Proxy-Authorization", None)
        return super().send(request, *arguments, **(options | {"proxies": None}))

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Tell a pool whom it trusts."""
        super().cert_verify(conn, url, verify, cert)
        if verify is True:
            # requests names a list of its own.
            conn.ca_certs = conn.ca_cert_dir = None
