"""What a node has in place of files if it is to leave none: a key in memory, which goes when the node goes.

It has the shape of a `Store` (store.py), but for what makes files.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from weft.identity import Identity
from weft.io.store import State


class Ephemeral:
    """The memory of a node that keeps nothing.

    Args:
        identity: of the node.
        network_secret: what the members of its network share; None if everybody may talk to it.

    Attributes:
        directory: it has none.
        state_path: what errors call the state.
        network_secret: as it was given.
    """

    directory: Final = None

    def __init__(self, identity: Identity, network_secret: bytes | None = None) -> None:
        self._identity = identity
        self.network_secret = network_secret
        self.state_path = Path("the state of a node that keeps nothing")

    def lock(self) -> AbstractContextManager[None]:
        """Nobody else can have it."""
        return nullcontext()

    def load_key(self) -> Identity:
        """The identity that it was given."""
        return self._identity

    def load_state(self) -> State:
        """The state of a node that was never there before."""
        return State()

    def save_state(self, state: State) -> None:
        """Keep nothing."""
