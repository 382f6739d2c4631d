"""Certificates in words: what others made up does no harm, and each code has its line."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.clients.certificates import Files, authority
from weft.clients.tls.certificates import decode_certificate, why_not_trusted
from weft.clients.tls.shaken import Certificate, short_name

CHAIN = [
    Certificate(subject="CN=a", issuer="CN=b", names=[], not_before=None, not_after=None, key="Ed25519", sha256="00"),
    Certificate(subject="", issuer="", names=["b"], not_before=None, not_after=None, key="RSA 2048", sha256="01"),
]


def error_of(code: int, message: str = "some words of OpenSSL") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (62, "it names nobody whom it is for, and host was expected"),
        (64, "it names nobody whom it is for, and host was expected"),
        (10, "the root that it leads to has expired"),
        (9, "the root that it leads to is not valid yet; is the clock right?"),
        (18, "it is self-signed: nobody vouches for it but itself"),
        (19, "its root is not known here: b"),
        (20, "its issuer is not known here, or does not show its own certificate: without a name"),
        (24, "who issued it may issue no certificates: b"),
        (26, "it is not for servers"),
        (66, "some words of openssl"),
        (-1, "some words of openssl"),
    ],
)
def test_each_code_has_its_line(code: int, reason: str) -> None:
    assert why_not_trusted(error_of(code), CHAIN, "host") == reason


def test_error_that_says_nothing_has_a_line_too() -> None:
    assert why_not_trusted(ssl.SSLCertVerificationError("?"), CHAIN, "host") == "it could not be verified"
    assert why_not_trusted(error_of(62), [], "host") == "some words of openssl"


@given(st.binary(max_size=300))
def test_what_is_no_certificate_is_shown_as_such(data: bytes) -> None:
    read = decode_certificate(data)
    assert (read.subject, read.names, read.not_after) == ("(unreadable)", [], None)


@given(st.data())
def test_broken_certificates_never_raise(data: st.DataObject) -> None:
    whole = bytearray(ssl.PEM_cert_to_DER_cert(authority().cert_pem.bytes().decode()))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert len(decode_certificate(bytes(whole)).sha256) == 95


def test_title_of_one_without_a_subject_is_its_name() -> None:
    assert [each.title for each in CHAIN] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("CN=ISRG Root X1,O=Internet Security Research Group,C=US", "ISRG Root X1"),
        ("O=x,CN=Smith\\, Jones \\+ Sons", "Smith, Jones + Sons"),
        ("O=x,OU=y", "O=x,OU=y"),
        ("O=CN\\=no", "O=CN\\=no"),
        ("", ""),
    ],
)
def test_short_name_is_the_common_one(name: str, short: str) -> None:
    assert short_name(name) == short


def test_fingerprint_is_the_one_of_openssl(files: Files) -> None:
    import hashlib

    der = ssl.PEM_cert_to_DER_cert(files.self_signed().read_text().partition("-----BEGIN PRIVATE")[0])
    assert decode_certificate(der).sha256.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
