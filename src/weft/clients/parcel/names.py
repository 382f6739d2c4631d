r"""Which names files may have that go from one peer to another: those that mean the same on every system.

| a name                                          | because                                                     |
|-------------------------------------------------|-------------------------------------------------------------|
| is empty, `.` or `..`                           | it leads elsewhere                                          |
| has a `/`, a `\` or a NUL                        | likewise, here or there                                     |
| has control characters, or turns text around    | it shows as another one                                     |
| is no text, or has more than 255 bytes as UTF-8 | some systems can't have it                                  |
| is `CON`, `NUL`, `COM1` …, with any ending      | it is a device on Windows                                   |
| ends in `.part`                                 | so do files that have not come as a whole yet               |
| differs from another one only in case           | some systems take them for one; so for the forms of an `é`  |

Where Windows receives, a `:`, `*`, `?`, `"`, `<`, `>` or `|`, and a space or a full stop at the end, are not taken
either: it reads them as something else.

Sender and receiver both look: who sends other names all the same is not to be trusted with anything.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Final

from weft.clients.parcel.messages import NAME_BYTES, PARTS, PATH_BYTES

PART: Final = ".part"
_APART: Final = "/\\\0"
_TURNING: Final = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_UNSEEN: Final = frozenset({"Cc", "Zl", "Zp"})
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³"}
)
_WINDOWS: Final = frozenset(':*?"<>|')


def fault_of(name: str, *, windows: bool = os.name == "nt") -> str:
    """Why a file or folder can't be called so.

    Args:
        name: of one file or folder.
        windows: whether it is to be on Windows.

    Returns:
        What is wrong with it, as in `it …`; empty if nothing is.
    """
    if name in {"", ".", ".."}:
        return "is no name"
    if set(name) & set(_APART):
        return "has a slash, a backslash or a NUL in its name"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "has a name that is no text"
    if length > NAME_BYTES:
        return f"has a name of more than {NAME_BYTES} bytes"
    if any(unicodedata.category(letter) in _UNSEEN or letter in _TURNING for letter in name):
        return "has control characters in its name"
    if name.partition(".")[0].rstrip(" ").casefold() in _DEVICES:
        return "has the name of a device on Windows"
    if name.casefold().endswith(PART):
        return f"ends in {PART}, as what has not come as a whole yet"
    if windows and (set(name) & _WINDOWS or name[-1] in " ."):
        return "has a name that Windows can't have"
    return ""


class Paths:
    """The paths of one parcel, from which each file knows whether it can be another one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[Sequence[str], bool]] = {}

    def add(self, path: Sequence[str], *, is_folder: bool = False) -> str:
        """Take one more.

        Args:
            path: the names from the first folder to the file.
            is_folder: what is at its end.

        Returns:
            Why it can't be, as in `it …`, and then it is not taken; empty if it is.
        """
        if not 1 <= len(path) <= PARTS:
            return f"is more than {PARTS} folders deep"
        fault = next(filter(None, map(fault_of, path)), "")
        if fault:
            return fault
        if len("/".join(path).encode()) > PATH_BYTES:
            return f"has a path of more than {PATH_BYTES} bytes"
        keys = [_key(name) for name in path]
        new: dict[tuple[str, ...], tuple[Sequence[str], bool]] = {}
        for depth in range(1, len(path) + 1):
            key, inner = tuple(keys[:depth]), path[:depth]
            folder = is_folder or depth < len(path)
            spelled, was_folder = self._known.get(key, (inner, True))
            if list(spelled) != list(inner):
                return f"differs from {spelled[-1]} only in the form of its letters"
            if key in self._known and not (folder and was_folder):
                return "is there twice"
            new[key] = inner, folder
        self._known |= new
        return ""


def _key(name: str) -> str:
    """The same for all names that some system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
