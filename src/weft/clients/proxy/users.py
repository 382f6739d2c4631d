"""Who may use a proxy: names and passwords, from a file with a line `NAME:PASSWORD` for each.

Empty lines and those that begin with `#` say nothing.

Source: RFC 1929 section 2 (both have 1 to 255 bytes); RFC 7617 section 2 (no colon in a name).
"""

from __future__ import annotations

from hmac import compare_digest
from pathlib import Path
from typing import Self

from weft.errors import ConfigError
from weft.io.durable import read_private

MAX_BYTES = 255


class Users:
    """Those who may come in; without any, everybody may.

    Args:
        passwords: by name.
    """

    def __init__(self, passwords: dict[bytes, bytes] | None = None) -> None:
        self._passwords = dict(passwords or {})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            FileNotFoundError: there is none.
            ConfigError: others can read it, or a line is not as it should be.
        """
        passwords = {}
        for number, line in enumerate(read_private(path).splitlines(), 1):
            if not line.strip() or line.startswith(b"#"):
                continue
            name, colon, password = line.partition(b":")
            if not (colon and 0 < len(name) <= MAX_BYTES and 0 < len(password) <= MAX_BYTES):
                raise ConfigError(f"line {number} is not NAME:PASSWORD", file=str(path))
            passwords[name] = password
        if not passwords:
            raise ConfigError("names nobody; a line is NAME:PASSWORD", file=str(path))
        return cls(passwords)

    def __bool__(self) -> bool:
        return bool(self._passwords)

    def know(self, name: bytes, password: bytes) -> bool:
        """Whether this is the password of somebody who may come in."""
        # Whoever is not known takes as long.
        return compare_digest(self._passwords.get(name, password), password) and name in self._passwords
