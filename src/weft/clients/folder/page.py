"""What is in a folder, as a page of HTML."""

from __future__ import annotations

import os
import stat
from html import escape
from typing import Final
from urllib.parse import quote_from_bytes

from weft.clients.folder.range import date_of

ENTRIES: Final = 10_000
"""On a page."""

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>table {{ font-family: monospace; }} td {{ padding-right: 2em; }} td + td {{ text-align: right; }}</style>
</head>
<body>
<h1>{title}</h1>
<table>
{rows}
</table>
{more}</body>
</html>
"""


def page_of(folder: int, path: list[bytes]) -> bytes:
    """The page.

    Args:
        folder: open.
        path: the names that lead there, from the folder that is served.

    Raises:
        OSError: it can't be read.
    """
    entries: list[tuple[bool, str, str]] = []
    more = ""
    with os.scandir(folder) as found:
        for entry in found:
            if len(entries) == ENTRIES:
                more = f"<p>These are {ENTRIES} of them; there are more.</p>\n"
                break
            entries.append(_row(entry))
    rows = [row for *_, row in sorted(entries)]
    if path:
        rows.insert(0, '<tr><td><a href="../">../</a></td><td></td><td></td></tr>')
    title = escape("/" + "".join(f"{_shown(name)}/" for name in path))
    return _PAGE.format(title=title, rows="\n".join(rows), more=more).encode()


def _row(entry: os.DirEntry[str]) -> tuple[bool, str, str]:
    """Whether it is a file, its name, and its row."""
    name, slash, size, changed = os.fsencode(entry.name), "", "", ""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        pass  # has gone
    else:
        slash = "/" if stat.S_ISDIR(status.st_mode) else ""
        size = str(status.st_size) if stat.S_ISREG(status.st_mode) else ""
        changed = f"{date_of(status):%Y-%m-%d %H:%M}"
    link = f'<a href="./{quote_from_bytes(name, safe="")}{slash}">{escape(_shown(name))}{slash}</a>'
    return not slash, entry.name, f"<tr><td>{link}</td><td>{size}</td><td>{changed}</td></tr>"


def _shown(name: bytes) -> str:
    return "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name.decode(errors="replace")
    )
