"""Packages that weft does without until somebody needs what they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from weft.errors import UsageError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import what an extra installs, inside the block.

    Args:
        name: of the extra, as in `pip install 'weft[http]'`.

    Raises:
        UsageError: it is not installed; says how it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "weft":
            raise
        raise UsageError(f"this needs {error.name}, which is not installed: pip install 'weft[{name}]'") from error
