"""The keys of `weft.toml` in words: the commented file that `weft init` writes, and the reference page of the docs."""

from __future__ import annotations

import json
import re
import textwrap
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from weft.engine.config import Config, type_of
from weft.engine.keys import KEYS, SECTIONS, Key

WIDTH: Final = 118

_TYPES: Final = {int: "number", bool: "`true` or `false`", str: "text"}
_DEFAULTS: Final = Config()


def render_default() -> str:
    """Give the commented `weft.toml` that `weft init` writes: all defaults, each with what it means."""
    lines = ["# weft.toml: what this node does. Every line below shows the default; delete what you do not change."]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        for number, key in enumerate(each for each in KEYS if each.section == section):
            lines += [""] * (number > 0)
            lines += [f"# {line}" for line in _wrapped(key.meaning)]
            shown = assignment(key)
            lines.append(f"# {shown}" if _DEFAULTS.value(key.name) is None else shown)
    return "\n".join(lines) + "\n"


def render_reference() -> str:
    """Give the reference page: for each key its type, default, meaning, and when a change counts."""
    parts = [
        "# Configuration",
        "`weft.toml` in the directory of a node says what it does. `weft init` writes one in which all defaults stand; "
        "what is missing has its default, and what is unknown is refused. `weft config check` tells whether a file is "
        "right, `weft config set KEY VALUE` changes one key and keeps comments and order, and `weft reload` or SIGHUP "
        "make a running node take what was edited by hand. A file that is wrong, or that can't be applied as a whole, "
        "changes nothing.",
    ]
    for section, about in SECTIONS.items():
        parts += [f"## [{section}]", about]
        for key in (each for each in KEYS if each.section == section):
            facts = f"{type_text(key.name)}; {_default_text(key)}; a change counts {key.applies}"
            parts += [f"### {key.name}", f"{facts[0].upper()}{facts[1:]}.", key.meaning]
    return "\n\n".join(parts) + "\n"


def toml_text(value: Any) -> str:
    """A value as TOML writes it; empty for none."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_text, value))}]"
    # A basic string of TOML is one of JSON, but for the control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def type_text(name: str) -> str:
    """The type of a key's values, for people."""
    kind = type_of(name)
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{choice}"`' for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list of text"
    if NoneType in get_args(kind):
        (kind,) = set(get_args(kind)) - {NoneType}
    return _TYPES[kind]


def _wrapped(text: str) -> list[str]:
    """The lines of a comment; a command in backticks stays in one."""
    whole = re.sub("`[^`]*`", lambda quoted: quoted[0].replace(" ", "\0"), text)
    return [line.replace("\0", " ") for line in textwrap.wrap(whole, WIDTH, break_on_hyphens=False)]


def assignment(key: Key) -> str:
    """The line that sets a key to its default, or to an example where it has none."""
    return f"{key.field} = {toml_text(_DEFAULTS.value(key.name)) or key.example}"


def _default_text(key: Key) -> str:
    value = toml_text(_DEFAULTS.value(key.name))
    return f"default `{value}`" if value else f"not set by default, for example `{key.example}`"
