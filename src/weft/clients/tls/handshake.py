"""A TLS handshake, to look at: what was agreed on, who is at the other end, and why that is to be believed or not.

A first connection verifies, as any program would. If that fails, a second one does not, and shows what there is to see.

A server of TLS 1.3 that wants a certificate of its client refuses it only after the client takes the handshake for
done. So a refusal is waited for as long as the handshake took, within `REFUSAL_S`.

Source: RFC 8446 section 4.4.2 and appendix E.1.2.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from weft.clients.failures import reason_of
from weft.clients.network import Network
from weft.clients.tls.certificates import chain_of, decode_certificate, why_not_trusted
from weft.clients.tls.shaken import Certificate, Handshake

REFUSAL_S: Final = (0.05, 1.0)
"""At least and at most."""
FAREWELL_S: Final = 1.0
"""How long a connection that is aborted may take for its end."""


async def look(
    network: Network, host: str, port: int, make_context: Callable[[bool], ssl.SSLContext], *, name: str | None = None
) -> Handshake:
    """Shake hands with a server, and say nothing more.

    Args:
        network: where it is.
        host: its name, address or peer id.
        port: TCP.
        make_context: makes a client's context that verifies, or does not.
        name: whose certificate is expected; None for the host's.

    Raises:
        OSError: it is not there, or there is no TLS.
    """
    expected = name or host
    try:
        return await _shake(network, host, port, make_context(True), expected, None)
    except ssl.SSLCertVerificationError as error:
        return await _shake(network, host, port, make_context(False), expected, error)


class _Listening(asyncio.Protocol):
    """Waits to be refused."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.has_heard = False

    def data_received(self, data: bytes) -> None:
        self.has_heard = True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)


async def _shake(
    network: Network,
    host: str,
    port: int,
    context: ssl.SSLContext,
    name: str,
    untrusted: ssl.SSLCertVerificationError | None,
) -> Handshake:
    loop = asyncio.get_running_loop()
    began = loop.time()
    transport, protocol = await network.create_connection(_Listening, host, port, ssl=context, server_hostname=name)
    assert isinstance(protocol, _Listening)
    try:
        # Once the connection is lost nothing of it is known any more.
        tls, address = transport.get_extra_info("ssl_object"), transport.get_extra_info("peername")[0]
        at_least_s, at_most_s = REFUSAL_S
        await asyncio.wait([protocol.lost], timeout=min(max(loop.time() - began, at_least_s), at_most_s))
        refusal = _refusal(protocol)
    finally:
        transport.abort()
        await asyncio.wait([protocol.lost], timeout=FAREWELL_S)
    cipher, alpn = tls.cipher(), tls.selected_alpn_protocol()
    chain = [decode_certificate(each) for each in chain_of(tls, verified=untrusted is None)]
    return Handshake(
        host=host,
        port=port,
        address=address,
        name=name,
        version=tls.version() or "",
        cipher=cipher[0] if cipher is not None else "",
        alpn=alpn,
        trusted=untrusted is None,
        reason=_why_trusted(chain, name) if untrusted is None else why_not_trusted(untrusted, chain, name),
        refusal=refusal,
        chain=chain,
    )


def _refusal(protocol: _Listening) -> str | None:
    if not protocol.lost.done():
        return None
    error = protocol.lost.result()
    if error is not None:
        return reason_of(error)
    # Some servers end what they refuse without a word, but none that has something to say.
    return None if protocol.has_heard else "the other side ended the connection at once"


def _why_trusted(chain: list[Certificate], name: str) -> str:
    if len(chain) < 2:
        return "it is known here"
    return f"it is for {name}, and {chain[-1].title} vouches for it"
