"""Hosts and ports as people write them: `loom:8443`, `192.0.2.1:8443`, `[fc00::1]:8443`."""

from __future__ import annotations

from weft.errors import UsageError

HERE = "127.0.0.1"


def split_place(text: str, port: int | None = None) -> tuple[str, int]:
    """Host and port.

    Args:
        text: what was written.
        port: what is meant where there is none; then an address of IPv6 needs no brackets. None: there has to be one.

    Raises:
        UsageError: it is neither.
    """
    has_none = ":" not in text or text.endswith("]") or (text.count(":") > 1 and not text.startswith("["))
    if port is not None and has_none:
        return text.removeprefix("[").removesuffix("]"), port
    host, _, digits = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not is_bracketed):
        raise UsageError(f"{text}: expected a host and a port, such as loom:8080 or [fc00::1]:8080")
    return host[1:-1] if is_bracketed else host, _port(digits, text)


def split_local(text: str) -> tuple[str, int]:
    """Host and port, of which the host may be left out: then it is this machine.

    Raises:
        UsageError: it is neither.
    """
    return split_place(text) if ":" in text else (HERE, _port(text, text))


def _port(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and 0 < int(digits) < 65536):
        raise UsageError(f"{text}: {digits!r} is no port")
    return int(digits)
