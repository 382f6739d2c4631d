"""The keys that a person has to log in with: of the agent, and of files; a passphrase is asked for only if need be.

| order | keys                                                  |
|-------|-------------------------------------------------------|
| 1     | those of files that were named, unless encrypted      |
| 2     | those that the agent holds                            |
| 3     | those of the usual files, unless encrypted            |
| 4     | encrypted ones, each once somebody said its passphrase |

A key that lies in a named or usual file and in the agent too is tried once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncssh

from weft.errors import UsageError

Ask = Callable[[str], Awaitable[str | None]]
"""Asks a person for something that nobody else shall see; None if there is nobody to ask."""

USUAL: Final = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
"""Files in ~/.ssh, as ssh(1) has them."""
ATTEMPTS: Final = 3
"""For a passphrase or password."""


class Keys:
    """What there is to log in with.

    Args:
        named: files that have to be there.
        agent: socket of an agent; None without one.
        ask: for passphrases.
        folder: where the usual files are; None for ~/.ssh.

    Raises:
        UsageError: a named file is none or has no private key.
    """

    def __init__(
        self,
        named: Sequence[Path] = (),
        *,
        agent: str | None = None,
        ask: Ask | None = None,
        folder: Path | None = None,
    ) -> None:
        self._agent, self._ask = agent, ask
        self._opened: asyncssh.SSHAgentClient | None = None
        self._encrypted: list[Path] = []
        self._named = [pair for path in named for pair in self._load(path, must=True)]
        home = Path.home() / ".ssh" if folder is None else folder
        usual = [home / name for name in USUAL] if not named else []
        self._usual = [pair for path in usual if path not in named for pair in self._load(path, must=False)]

    async def batches(self) -> AsyncIterator[list[asyncssh.SSHKeyPair]]:
        """The keys, in the order of the table."""
        seen: set[bytes] = set()
        for keys in (self._named, await self._of_agent(), self._usual):
            new = [key for key in keys if key.public_data not in seen]
            seen.update(key.public_data for key in new)
            if new:
                yield new
        for path in self._encrypted:
            unlocked = await self._unlock(path)
            if unlocked and unlocked[0].public_data not in seen:
                yield unlocked

    def close(self) -> None:
        """Let go of the agent."""
        if self._opened is not None:
            self._opened.close()

    async def _of_agent(self) -> list[asyncssh.SSHKeyPair]:
        if self._agent is None:
            return []
        # An agent that has gone, or is none, is as good as no agent.
        with suppress(OSError, ValueError, asyncssh.Error):
            self._opened = await asyncssh.connect_agent(self._agent)
            return list(await self._opened.get_keys())
        return []

    def _load(self, path: Path, *, must: bool) -> list[asyncssh.SSHKeyPair]:
        try:
            return list(asyncssh.load_keypairs([str(path)]))
        except OSError as error:
            if must:
                raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
            if "passphrase" in str(error).lower():
                self._encrypted.append(path)
            elif must:
                raise UsageError(f"{path}: {error}") from error
        return []

    async def _unlock(self, path: Path) -> list[asyncssh.SSHKeyPair]:
        for _ in range(ATTEMPTS if self._ask is not None else 0):
            assert self._ask is not None
            passphrase = await self._ask(f"Passphrase of {path}: ")
            if not passphrase:
                return []
            try:
                return list(asyncssh.load_keypairs([str(path)], passphrase))
            except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
                if "passphrase" not in str(error).lower():
                    raise UsageError(f"{path}: {error}") from error
        return []
