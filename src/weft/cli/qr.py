"""QR codes in a terminal.

Each character is two modules, one above the other, so that modules are about square. Colours are set where they may be:
then the code is dark on light whatever the terminal's own colours are. Where they may not, the light modules are what
is drawn, which is right on a dark terminal; most readers take the other as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

BORDER = 2
"""Light modules around it: less than the standard's 4, as most programs do in a terminal, where room is scarce."""

_LETTERS = {(1, 1): " ", (0, 0): "█", (0, 1): "▀", (1, 0): "▄"}
"""By the upper and the lower module, 1 being dark: what is drawn is light."""
_ON, _OFF = "\x1b[97;40m", "\x1b[0m"


def qr_lines(text: str, *, colored: bool) -> list[str]:
    """Draw a text as a QR code with the least error correction, for a screen is not torn.

    Args:
        text: what it says; up to 2,953 bytes of UTF-8.
        colored: whether colours may be set.
    """
    import segno

    matrix: list[Sequence[int]] = [
        bytes(row) for row in segno.make(text, error="l", micro=False, boost_error=False).matrix_iter(border=BORDER)
    ]
    lines = [
        "".join(_LETTERS[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip_longest(matrix[::2], matrix[1::2], fillvalue=bytes(len(matrix[0])))
    ]
    return [f"{_ON}{line}{_OFF}" for line in lines] if colored else lines
