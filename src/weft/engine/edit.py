"""Changes of `weft.toml` by a program: one key at a time, while comments, order and layout stay.

What a key is set to takes the place of the old value, of a line that shows it in a comment, or goes to the end of its
section. A key that is unset stays in a comment, which shows its default or an example. Whatever else the file holds is
the same afterwards; where that can't be, nothing is changed and a person has to do it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

import msgspec

from weft.engine.config import Config, decode_config, read_text, type_of, unknown
from weft.engine.keys import BY_NAME, KEYS, Key
from weft.engine.manual import assignment, toml_text
from weft.errors import ConfigError, UsageError
from weft.io.durable import replace_file

_VALUE = r"""(?:"[^"\n]*"|'[^'\n]*'|[^#"'\r\n])*(?<![ \t])"""
"""What a key is set to in one line, up to a comment."""
_MARK = "weft: this key is to be a comment"


def key_named(name: str) -> Key:
    """The key of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in BY_NAME:
        raise UsageError(f"{name}: {unknown(name, 'key', [key.name for key in KEYS])}")
    return BY_NAME[name]


def decode_value(name: str, text: str) -> Any:
    """The value that a person gives a key on a command line.

    Args:
        name: of the key, such as `peer.listen`.
        text: as TOML writes it; text also without its quotes, and a list also as its parts with commas between.

    Raises:
        UsageError: there is no such key, or the text is no value of its type.
    """
    kind = type_of(key_named(name).name)
    is_list = get_origin(kind) is tuple
    is_text = not is_list and kind not in {int, bool}
    if is_text and text[:1] not in {'"', "'"}:
        return text
    if is_list and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
        msgspec.convert(value, kind)
    except (ValueError, msgspec.ValidationError):
        expected = "a list of text" if is_list else _EXPECTED.get(kind, "text")
        raise UsageError(f"{name}: expected {expected}, not {text!r}") from None
    return value


_EXPECTED = {int: "a number", bool: "true or false"}


def edit_text(text: str, changes: Mapping[str, Any]) -> str:
    """Change keys in the content of a valid `weft.toml`.

    Args:
        text: the content.
        changes: new value by key; None for the default.

    Returns:
        The new content.

    Raises:
        ConfigError: the file is written so that it can't be changed by a program.
    """
    for name, value in changes.items():
        key = key_named(name)
        wanted = _changed(tomllib.loads(text), key, value)
        edited = _unset(text, key) if value is None else _set(text, key, value)
        if not _says(edited, wanted):
            raise ConfigError("is written so that only a person can change this key; edit the file", key=name)
        text = edited
    return text


def prepare_change(path: Path, changes: Mapping[str, Any]) -> tuple[Config, str]:
    """Change keys of a `weft.toml`, but for writing it.

    Returns:
        The new configuration, and the new content of the file.

    Raises:
        ConfigError: the file is wrong, or can't be changed by a program.
        UsageError: there is no such key, or a value makes no sense.
    """
    text = read_text(path)
    decode_config(text, str(path))
    edited = edit_text(text, changes)
    try:
        return decode_config(edited, ""), edited
    except ConfigError as error:
        raise UsageError(str(error)) from None


def change_file(path: Path, changes: Mapping[str, Any]) -> Config:
    """Change keys of a `weft.toml` on the disk, all of them or none.

    Raises:
        ConfigError: as `prepare_change`; or it can't be written.
        UsageError: as `prepare_change`.
    """
    config, text = prepare_change(path, changes)
    replace_file(path, text.encode())
    return config


def _set(text: str, key: Key, value: Any) -> str:
    import tomlkit

    document: Any = tomlkit.parse(text)
    section = document.get(key.section)
    if section is None:
        return f"{text.rstrip()}\n\n[{key.section}]\n{key.field} = {toml_text(value)}\n".lstrip()
    old = section.get(key.field)
    if isinstance(old, list) and isinstance(value, (list, tuple)):
        _set_list(old, list(value))
    elif old is not None:
        section[key.field] = value
    else:
        line = _line_in_comment(text, key)
        if line is not None:
            return text[: line.start()] + f"{key.field} = {toml_text(value)}" + text[line.end() :]
        section[key.field] = value
    return tomlkit.dumps(document)


def _set_list(array: Any, value: list[Any]) -> None:
    """Change a list item by item, for there may be comments between them."""
    for item in [item for item in array if item not in value]:
        array.remove(item)
    for item in value:
        if item not in array:
            array.append(item)
    if list(array) != value:
        array.clear()
        array.extend(value)


def _unset(text: str, key: Key) -> str:
    import tomlkit

    document: Any = tomlkit.parse(text)
    section = document.get(key.section)
    if section is None or key.field not in section:
        return text
    section[key.field] = _MARK
    marked = tomlkit.dumps(document)
    commented = re.sub(
        rf"(?m)^([ \t]*){key.field}\s*=\s*\"{_MARK}\"", lambda found: f"{found[1]}# {assignment(key)}", marked
    )
    if _says(commented, _changed(tomllib.loads(text), key, None)):
        return commented
    del section[key.field]
    return tomlkit.dumps(document)


def _line_in_comment(text: str, key: Key) -> re.Match[str] | None:
    """What sets a key in a comment of its section, without a comment behind it; prose that looks like it is not it."""
    header = re.search(rf"(?m)^\s*\[\s*{key.section}\s*\]", text)
    if header is None:
        return None
    following = re.compile(r"(?m)^\s*\[").search(text, header.end())
    end = following.start() if following is not None else len(text)
    assignments = re.compile(rf"(?m)^#\s*{key.field} = ({_VALUE})").finditer(text, header.end(), end)
    return next((found for found in assignments if _is_toml(f"{key.field} = {found[1]}")), None)


def _changed(document: dict[str, Any], key: Key, value: Any) -> dict[str, Any]:
    """What a document is to say after a change."""
    section = dict(document.get(key.section, {}))
    if value is None:
        section.pop(key.field, None)
    else:
        section[key.field] = list(value) if isinstance(value, (list, tuple)) else value
    return document | {key.section: section}


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def _says(text: str, document: dict[str, Any]) -> bool:
    """Whether a text is TOML and says that, empty sections aside."""
    if not _is_toml(text):
        return False
    return {name: content for name, content in tomllib.loads(text).items() if content} == {
        name: content for name, content in document.items() if content
    }
