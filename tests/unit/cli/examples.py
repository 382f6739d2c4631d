"""Reads the command lines that help and pages show."""

from __future__ import annotations

import shlex
from collections.abc import Iterator


def typed(line: str) -> Iterator[list[str]]:
    """The arguments of each `weft` on a line of a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] | None = None
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            if words is not None:
                yield words[:-1] if word == ">" and words[-1:] == ["2"] else words
            words = None
        elif words is not None:
            words.append(word)
        elif word == "weft":
            words = []
