"""What there is to send of files and folders.

| what is met in a folder                        | what is done                          |
|------------------------------------------------|---------------------------------------|
| a file, a folder                               | it is sent, with all that is in it    |
| a link, a device, a socket, a pipe             | left out                              |
| a name that not every system can have          | left out (names.py)                   |
| a folder that can't be read                    | left out                              |

What is named itself and is one of these is an error, and nothing is sent. A link that is named leads to what is sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weft.clients.failures import reason_of
from weft.clients.parcel.messages import ENTRIES, Entry, Offer
from weft.clients.parcel.names import Paths
from weft.errors import UsageError


@dataclass(frozen=True, eq=False)
class Item:
    """One file, or a folder with nothing in it."""

    place: Path
    path: tuple[str, ...]
    """Over there."""
    found: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Whether it is one."""
        return stat.S_ISDIR(self.found.st_mode)

    @property
    def size_bytes(self) -> int:
        """Of the file; 0 for a folder."""
        return 0 if self.is_folder else self.found.st_size

    @property
    def entry(self) -> Entry:
        """What is said of it."""
        return Entry(
            path=list(self.path),
            size_bytes=None if self.is_folder else self.found.st_size,
            time_s=min(max(int(self.found.st_mtime), 0), 2**33),
            is_program=not self.is_folder and bool(self.found.st_mode & stat.S_IXUSR),
        )


@dataclass
class Parcel:
    """What is sent together."""

    items: list[Item] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """And why, a line each."""
    paths: Paths = field(default_factory=Paths)

    @property
    def offer(self) -> Offer:
        """What is said of it."""
        names = {item.path[0] for item in self.items}
        return Offer(
            entries=len(self.items),
            files=sum(not item.is_folder for item in self.items),
            size_bytes=sum(item.size_bytes for item in self.items),
            name=names.pop() if len(names) == 1 else "",
        )


def pack(places: Sequence[Path]) -> Parcel:
    """Look for what there is to send; nothing is opened for longer than this.

    Args:
        places: files and folders.

    Raises:
        OSError: one of them can't be read.
        UsageError: one of them can't be sent, or there is nothing, or too much.
    """
    parcel = Parcel()
    for place in places:
        name = place.name if place.name not in {"", ".."} else place.resolve().name
        found = os.stat(place)
        if stat.S_ISREG(found.st_mode):
            # Now, and not when the other side has been asked.
            os.close(os.open(place, os.O_RDONLY))
        elif stat.S_ISDIR(found.st_mode):
            os.listdir(place)
        else:
            raise UsageError(f"{place}: is neither a file nor a folder")
        item = Item(place, (name,), found)
        if fault := parcel.paths.add(item.path, is_folder=item.is_folder):
            raise UsageError(f"{place}: {fault}")
        _add(parcel, item)
    if not parcel.items:
        raise UsageError("no file is given")
    names = {item.path[0] for item in parcel.items}
    hidden = next((name for name in sorted(names) if name.startswith(".")), "")
    if hidden and len(names) > 1:
        raise UsageError(f"{hidden}: is hidden; send it by itself, so that its name is seen there")
    return parcel


def _add(parcel: Parcel, item: Item) -> None:
    """Take a file, or a folder and what is in it."""
    inside = _inside(parcel, item) if item.is_folder else []
    if not inside:
        if len(parcel.items) >= ENTRIES:
            raise UsageError(f"these are more than {ENTRIES} files; send them as an archive")
        parcel.items.append(item)
    for each in inside:
        _add(parcel, each)


def _inside(parcel: Parcel, folder: Item) -> list[Item]:
    """What is in a folder and can be sent."""
    found = []
    try:
        with os.scandir(folder.place) as entries:
            for entry in entries:
                path = (*folder.path, entry.name)
                found.append(Item(folder.place / entry.name, path, entry.stat(follow_symlinks=False)))
    except OSError as error:
        parcel.left_out.append(f"{folder.place}: {reason_of(error)}")
    found.sort(key=lambda item: item.path)
    return [item for item in found if not _is_left_out(parcel, item)]


def _is_left_out(parcel: Parcel, item: Item) -> bool:
    mode = item.found.st_mode
    if stat.S_ISLNK(mode):
        fault = "is a link"
    elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        fault = "is neither a file nor a folder"
    else:
        fault = parcel.paths.add(item.path, is_folder=item.is_folder)
    if fault:
        parcel.left_out.append(f"{item.place}: {fault}")
    return bool(fault)
