"""Why a connection failed, in one line."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from weft.clients.failures import reason_of


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] in OpenSSL's words (_ssl.c:1002)")
    error.reason = reason
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = "certificate has expired"
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('fc00::2', 80)"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "x"), "no route to host"),
        (OSError("Multiple exceptions: [Errno 111] to a, [Errno 111] to b"), "connection refused"),
        (
            OSError("Multiple exceptions: [Errno 111] to a, [Errno 101] to b"),
            "connection refused, network is unreachable",
        ),
        (ConnectionResetError(), "ConnectionResetError"),
        (ConnectionResetError("the connection was closed"), "the connection was closed"),
        (TimeoutError(), "no answer"),
        (TimeoutError(errno.ETIMEDOUT, "Connect call failed"), "no answer"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (tls_error("WRONG_VERSION_NUMBER"), "what answers there does not speak TLS"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "the other side refused: handshake failure"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "the other side refused: certificate required"),
        (tls_error("UNEXPECTED_EOF_WHILE_READING"), "the other side ended the connection in the middle of it"),
        (tls_error("NO_SUITABLE_KEY_SHARE"), "TLS failed: no suitable key share"),
        (untrusted(), "its certificate is not trusted: certificate has expired"),
        (ValueError("odd"), "odd"),
        (KeyError(), "KeyError"),
    ],
)
def test_reason_of_what_was_raised(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason


def test_reason_of_what_caused_it() -> None:
    error = RuntimeError("wrapped")
    error.__cause__ = OSError(errno.ENETUNREACH, "x")
    assert reason_of(error) == "network is unreachable"
