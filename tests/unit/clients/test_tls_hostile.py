"""What a hostile server of TLS can't do to our client: sign with another key than its certificate's, or change a bit.

The seed's TLS read neither the certificate nor the signature, and took the server's last word unchecked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.clients.certificates import Files, authority
from weft.clients.failures import reason_of
from weft.clients.tls.connect import client_context

HERE = "127.0.0.1"
SERVER = """
import sys
from scapy.layers.tls.automaton_srv import TLSServerAutomaton
here, port, certificate, key = sys.argv[1:]
TLSServerAutomaton(server=here, sport=int(port), mycert=certificate, mykey=key, curve="x25519", verbose=False).run()
"""


@contextmanager
def signing(certificate: Path, key: Path) -> Iterator[int]:
    """A server that shows a certificate and signs with a key, whether or not they belong together; gives its port."""
    with socket.create_server((HERE, 0)) as probe:
        port = probe.getsockname()[1]
    words = [sys.executable, "-W", "ignore", "-c", SERVER, HERE, str(port), str(certificate), str(key)]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        yield port
        server.kill()


@pytest.mark.parametrize("is_its_own", [True, False])
async def test_signature_has_to_be_of_the_key_in_the_certificate(
    files: Files, tmp_path: Path, *, is_its_own: bool
) -> None:
    own, other = (authority().issue_cert("right") for _ in range(2))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    (own if is_its_own else other).private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    context = client_context(roots=files.roots)
    with signing(tmp_path / "certificate.pem", tmp_path / "key.pem") as port:
        failure = await asyncio.wait_for(failure_of(port, context), 20)
    assert failure == (None if is_its_own else "TLS failed: bad signature")


async def failure_of(port: int, context: ssl.SSLContext) -> str | None:
    """Why a handshake fails with the server that is being started at a port; None if it does not."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HERE, port, ssl=context, server_hostname="right")
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        except ssl.SSLError as error:
            return reason_of(error)
        else:
            writer.transport.abort()
            return None


def shake(trusting: ssl.SSLContext, serving: ssl.SSLContext, flipped: int | None = None) -> int:
    """Shake hands in memory, with one bit of what the server says first changed; how many bytes it says."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname="right")
    answers, asked = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(asked, answers, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    asked.write(to_server.read())
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    said = bytearray(answers.read())
    if flipped is not None:
        # Signatures are not all of one length.
        said[flipped % len(said)] ^= 1
    to_client.write(bytes(said))
    client.do_handshake()
    return len(said)


def test_handshake_that_broke_off_is_nothing_to_go_on_with(files: Files) -> None:
    """And does not keep the next connection from being made."""
    contexts = client_context(roots=files.roots), files.server()
    size = shake(*contexts)
    with pytest.raises(ssl.SSLError):
        shake(*contexts, size - 1)
    assert shake(*contexts) > 0


def test_no_bit_of_the_handshake_can_be_changed(files: Files) -> None:
    contexts = client_context(roots=files.roots), files.server()
    size = shake(*contexts)
    harmless = []
    for place in [*range(0, size, 7), *range(size - 60, size)]:
        try:
            shake(*contexts, place)
        except ssl.SSLError:
            continue
        except ssl.SSLWantReadError:  # a length that is larger now
            continue
        harmless.append(place)
    # The version in the head of the first record means nothing, RFC 8446 section 5.1.
    assert set(harmless) <= {1, 2}
