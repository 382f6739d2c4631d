"""What a node remembers from one run to the next: who holds the state while it runs, and when it is written.

Whoever changes something of it holds `changing` until that is saved or undone, so that nothing is written which nobody
was told of, and no undo takes back what somebody else has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from weft.engine.config import Config, load_network_psk, network_psk
from weft.errors import ConfigError, DecodeError
from weft.firewall.rules import Rule, decode_rule
from weft.identity import Identity
from weft.io.ephemeral import Ephemeral
from weft.io.store import State, Store
from weft.noise.primitives import KEY_BYTES

log = logging.getLogger("weft.engine")

SAVE_DELAY_S = 0.1
RETRY_S = 10.0
"""After a failure, before the next attempt."""
FLOOR_AHEAD_S = 60
"""How far the stored timestamp is ahead of the last one that was sent."""


class Memory:
    """The directory of a node, locked for this process; or what a node has that keeps nothing.

    Args:
        home: the directory, or what stands for it.
        collect: makes the state that is to be remembered out of the one that was.

    Attributes:
        directory: None for a node that has none.
        identity: the node's.
        state: as it was read or written last.
        changing: held by who changes what is remembered; never while waiting for the network.
    """

    def __init__(self, home: Path | Ephemeral, collect: Callable[[State], State]) -> None:
        """Take the directory and read it.

        Raises:
            ConfigError: another daemon has it, or a file in it is wrong.
        """
        self._store = home if isinstance(home, Ephemeral) else Store(home)
        self.directory = self._store.directory
        self._held = ExitStack()
        self._held.enter_context(self._store.lock())
        self._collect = collect
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()
        self.changing = asyncio.Lock()
        try:
            self.identity: Identity = self._store.load_key()
            self.state = self._store.load_state()
        except BaseException:
            self.close()
            raise

    def rules(self) -> list[Rule]:
        """The firewall rules of the state.

        Raises:
            ConfigError: one is none.
        """
        try:
            return [decode_rule(text) for text in self.state.allow]
        except DecodeError as error:
            raise ConfigError(str(error), file=str(self._store.state_path), key="allow") from error

    def network_psk(self, config: Config) -> bytes:
        """The preshared key of the network, 32 bytes; zeros without a secret.

        Raises:
            ConfigError: the file that the configuration names can't be used.
            UsageError: the secret of a node without files is too short.
        """
        if not isinstance(self._store, Ephemeral):
            return load_network_psk(config, self._store.directory) or bytes(KEY_BYTES)
        secret = self._store.network_secret
        return network_psk(secret) if secret is not None else bytes(KEY_BYTES)

    @property
    def timestamp_floor(self) -> bytes:
        """The TAI64N that no handshake may carry again, 12 bytes."""
        return bytes.fromhex(self.state.timestamp_floor)

    def close(self) -> None:
        """Give the directory back."""
        self._held.close()

    def handle_change(self) -> None:
        """Something is to be remembered; `keep` writes it soon."""
        self._changed.set()

    async def keep(self) -> None:
        """Write the state soon after it changed, until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(SAVE_DELAY_S)
            self._changed.clear()
            if not await self.save_if_possible():
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def save(self) -> None:
        """Write what is to be remembered; returns when a power cut can't take it any more.

        If it is cancelled, it ends when the thread that writes has: nothing older is written after what is newer.

        Raises:
            ConfigError: the disk is full, say; the old state is still there.
        """
        async with self._saving:
            state = self._collect(self.state)
            writing = asyncio.ensure_future(asyncio.to_thread(self._store.save_state, state))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait({writing})
                raise
            finally:
                if writing.done() and writing.exception() is None:
                    self.state = state

    async def save_if_possible(self) -> bool:
        """As `save`, once nobody changes anything; a failure is logged, and false."""
        async with self.changing:
            try:
                await self.save()
            except ConfigError as error:
                log.error("%s", error)
                return False
            return True
