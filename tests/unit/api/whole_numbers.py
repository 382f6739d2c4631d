"""A hook of schemathesis: JSON Schema takes 5.0 for an integer, while the API wants it written as 5."""

from __future__ import annotations

import schemathesis


@schemathesis.hook
def filter_body(_: schemathesis.HookContext, body: object) -> bool:
    return not _has_whole_float(body)


def _has_whole_float(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_whole_float, value.values()))
    if isinstance(value, list):
        return any(map(_has_whole_float, value))
    return isinstance(value, float) and value.is_integer()
