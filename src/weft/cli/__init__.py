"""The command `weft`: one file per command group.

It asks the daemon over its API and prints what comes back, nothing more; only `init`, `daemon` and `up` touch the
node's directory. Modules load when their command is used, so that an answer comes within a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        args: the arguments after the command's name; those of the process by default.

    Returns:
        0 when it did what was asked, 1 when that failed, 2 when it was asked wrongly, 130 when it was interrupted.
    """
    from weft.cli.outcome import run
    from weft.cli.root import weft

    return run(weft, args)
