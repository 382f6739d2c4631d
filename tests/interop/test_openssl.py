"""TLS against OpenSSL's own client and server, through a tunnel: each suite, X25519, resumption, certificates, ALPN.

One end is a node without any right, with its own TCP; the other is OpenSSL behind bob's TUN. Of the seed's TLS it was
known that it verified nothing, knew one suite only, broke at the compatibility messages and at long chains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import trustme

from tests.interop.ends import Ends
from tests.system.process import Process

pytestmark = [pytest.mark.system, pytest.mark.interop("openssl", "setpriv"), pytest.mark.timeout(120)]

SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
PORTS = count(7000)


@contextmanager
def s_server(ends: Ends, certificate: Path, *options: str) -> Iterator[tuple[int, Process]]:
    """OpenSSL's server on bob, which says each line backwards; gives its port."""
    port = next(PORTS)
    process = ends.bob.start(
        *("openssl", "s_server", "-accept", f"[::]:{port}", "-cert", str(certificate), "-key", str(certificate)),
        *("-tls1_3", "-rev", *options),
        name="openssl s_server",
    )
    process.wait_for("ACCEPT")
    try:
        yield port, process
    finally:
        process.stop()


def s_client(ends: Ends, port: int, *options: str, stays_s: float = 0) -> str:
    """What OpenSSL's client on bob says about a server of the node without rights, to which it says nothing."""
    return ends.bob.outcome(
        *("bash", "-c", f'sleep {stays_s} | openssl s_client "$@" 2>&1', "s_client"),
        *("-connect", f"[{ends.address}]:{port}", "-servername", "alice"),
        *("-CAfile", str(ends.roots), "-verify_return_error", *options),
    ).out


@contextmanager
def serving(ends: Ends, certificate: Path, **options: object) -> Iterator[int]:
    port = next(PORTS)
    ends.do("serve", "aiohttp", port, certificate=str(certificate), **options)
    try:
        yield port
    finally:
        ends.do("close", port)


class TestServers:
    """OpenSSL's server, our client."""

    @pytest.mark.parametrize("suite", SUITES)
    def test_suite_with_x25519(self, ends: Ends, suite: str) -> None:
        certificate = ends.certificate("bob")
        with s_server(ends, certificate, "-ciphersuites", suite, "-groups", "X25519") as (port, process):
            shaken = ends.do("look", "bob", port, roots=str(ends.roots))
            assert (shaken["version"], shaken["cipher"]) == ("TLSv1.3", suite)
            assert shaken["trusted"]
            assert ends.do("say", "bob", port, "hello", roots=str(ends.roots)) == [["olleh", False]]
            # The server has this suite and this group only, so that nothing else can have been agreed on.
            assert f"Ciphersuite: {suite}\n" in process.output()

    def test_group_for_which_the_client_has_to_begin_again(self, ends: Ends) -> None:
        with s_server(ends, ends.certificate("bob"), "-groups", "P-384") as (port, _):
            assert ends.do("say", "bob", port, "hello", roots=str(ends.roots)) == [["olleh", False]]

    def test_resumption(self, ends: Ends) -> None:
        with s_server(ends, ends.certificate("bob")) as (port, _):
            said = ends.do("say", "bob", port, "hello", roots=str(ends.roots), times=3)
        assert said == [["olleh", False], ["olleh", True], ["olleh", True]]

    def test_name_and_protocol_are_asked_for(self, ends: Ends) -> None:
        other = str(ends.certificate("www.example.org"))
        options = ("-servername", "www.example.org", "-cert2", other, "-key2", other, "-alpn", "http/1.1")
        with s_server(ends, ends.certificate("bob"), *options) as (port, _):
            looks = [
                ends.do("look", "bob", port, roots=str(ends.roots), name=name, alpn=["h2", "http/1.1"])
                for name in ("bob", "www.example.org")
            ]
        assert [look["trusted"] for look in looks] == [True, True]
        assert [look["chain"][0]["names"] for look in looks] == [["bob"], ["www.example.org"]]
        assert looks[0]["alpn"] == "http/1.1"

    def test_server_that_asks_for_a_certificate(self, ends: Ends) -> None:
        own = str(ends.certificate("me@example.org", common_name="me myself"))
        options = ("-Verify", "1", "-CAfile", str(ends.roots), "-verify_return_error")
        with s_server(ends, ends.certificate("bob"), *options) as (port, process):
            shaken = ends.do("look", "bob", port, roots=str(ends.roots), certificate=own)
            assert shaken["refusal"] is None
            assert "CN = me myself" in process.wait_for("me myself")
            refused = ends.do("look", "bob", port, roots=str(ends.roots))
        assert refused["trusted"]
        assert refused["refusal"] == "the other side refused: certificate required"

    def test_chain_of_nine(self, ends: Ends) -> None:
        issuer = ends.authority
        for _ in range(8):
            issuer = issuer.create_child_ca()
        certificate = ends.certificate("bob", issuer=issuer)
        with s_server(ends, certificate, "-cert_chain", str(certificate)) as (port, _):
            shaken = ends.do("look", "bob", port, roots=str(ends.roots))
        assert (shaken["trusted"], len(shaken["chain"])) == (True, 10)

    def test_chain_that_does_not_fit_into_8_kib(self, ends: Ends) -> None:
        issuer = ends.authority.create_child_ca()
        certificate = ends.certificate(
            "bob", *(f"host-{number}.bob.example.org" for number in range(500)), issuer=issuer
        )
        with s_server(ends, certificate, "-cert_chain", str(certificate), "-msg") as (port, process):
            shaken = ends.do("look", "bob", port, roots=str(ends.roots))
            sizes = re.findall(r"Handshake \[length ([0-9a-f]+)\], Certificate\n", process.output())
        assert shaken["trusted"]
        assert max(int(size, 16) for size in sizes) > 8192

    def test_change_of_cipher_spec_that_means_nothing_any_more(self, ends: Ends) -> None:
        """The server sends one for what stands between; the seed's TLS broke at it."""
        with s_server(ends, ends.certificate("bob"), "-msg") as (port, process):
            assert ends.do("say", "bob", port, "hello", roots=str(ends.roots)) == [["olleh", False]]
            said = process.output()
        assert re.search(r">>> .*ChangeCipherSpec", said)

    @pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
    def test_older_version(self, ends: Ends, suite: str) -> None:
        port = next(PORTS)
        certificate = str(ends.certificate("bob"))
        process = ends.bob.start(
            *("openssl", "s_server", "-accept", f"[::]:{port}", "-cert", certificate, "-key", certificate),
            *("-tls1_2", "-cipher", suite, "-rev"),
        )
        process.wait_for("ACCEPT")
        shaken = ends.do("look", "bob", port, roots=str(ends.roots))
        process.stop()
        assert (shaken["version"], shaken["cipher"], shaken["trusted"]) == ("TLSv1.2", suite, True)


class TestClients:
    """Our server, OpenSSL's client."""

    @pytest.mark.parametrize("suite", SUITES)
    def test_suite_with_x25519(self, ends: Ends, suite: str) -> None:
        with serving(ends, ends.certificate("alice")) as port:
            said = s_client(ends, port, "-ciphersuites", suite, "-groups", "X25519", "-verify_hostname", "alice")
        assert f"New, TLSv1.3, Cipher is {suite}" in said
        assert "Server Temp Key: X25519" in said
        assert "Verify return code: 0 (ok)" in said

    def test_resumption(self, ends: Ends) -> None:
        session = str(ends.directory / "session")
        with serving(ends, ends.certificate("alice")) as port:
            # Tickets come behind the handshake, so the client has to stay until it has them.
            assert "New, TLSv1.3" in s_client(ends, port, "-sess_out", session, stays_s=0.5)
            assert "Reused, TLSv1.3" in s_client(ends, port, "-sess_in", session)

    def test_protocol(self, ends: Ends) -> None:
        with serving(ends, ends.certificate("alice"), alpn=["http/1.1"]) as port:
            assert "ALPN protocol: http/1.1" in s_client(ends, port, "-alpn", "h2,http/1.1")

    def test_client_with_and_without_a_certificate(self, ends: Ends) -> None:
        own = str(ends.certificate("me@example.org"))
        with serving(ends, ends.certificate("alice"), clients=str(ends.roots)) as port:
            assert "alert" not in s_client(ends, port, "-cert", own, "-key", own, stays_s=0.5)
            assert "alert certificate required" in s_client(ends, port, stays_s=0.5)

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1"])
    def test_client_of_an_older_version_is_refused(self, ends: Ends, version: str) -> None:
        with serving(ends, ends.certificate("alice")) as port:
            assert re.search("alert protocol version|no protocols available", s_client(ends, port, version))


class TestCommand:
    """`weft tls`, on the machine with a TUN."""

    def test_trusted(self, ends: Ends) -> None:
        with s_server(ends, ends.certificate("bob")) as (port, _):
            said = ends.alice.weft("tls", f"bob:{port}", "--ca", str(ends.roots))
        assert "TLSv1.3, TLS_AES_256_GCM_SHA384" in said
        assert "\ntrusted: it is for bob, and " in said

    @pytest.mark.parametrize("fault", ["unknown", "name", "self-signed", "expired"])
    def test_not_trusted(self, ends: Ends, fault: str) -> None:
        certificate, why = self.wrong(ends, fault)
        with s_server(ends, certificate) as (port, _):
            seen = ends.alice.outcome("tls", f"bob:{port}", "--ca", str(ends.roots))
        assert seen.code == 1
        assert f"\nnot trusted: {why}" in seen.out
        assert seen.err == ""

    def wrong(self, ends: Ends, fault: str) -> tuple[Path, str]:
        """A certificate that is wrong, and what is said of it."""
        if fault == "unknown":
            return ends.certificate("bob", issuer=trustme.CA()), "its issuer is not known here"
        if fault == "name":
            return ends.certificate("www.example.org"), "it is for www.example.org, and not for bob"
        if fault == "expired":
            now = datetime.now(UTC)
            ended = ends.certificate("bob", not_before=now - timedelta(9), not_after=now - timedelta(8))
            return ended, "it expired on"
        file, key = ends.directory / "self-signed.pem", ends.directory / "self-signed.key"
        ends.bob.run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(file), "-subj", "/CN=bob", "-addext", "subjectAltName=DNS:bob"),
        )
        file.write_text(file.read_text() + key.read_text())
        return file, "it is self-signed"
