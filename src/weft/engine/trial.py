"""A peer that is called because a person asks for it, and wanted for as long as somebody waits for it.

It is settled when it has come: what is saved until then has it as it was before, and so has the node if it does not
come. Whoever settles something else about it meanwhile takes it as it is then, so that there is nothing to undo.

Not done here: calling it (verbs/peers.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from weft.io.store import StoredPeer


@dataclass
class Trial:
    """What there is to know of it."""

    before: StoredPeer | None
    """Its record; None of somebody who was no peer."""
    callers: int = 0
    """Who wait for it."""
