"""Fixtures of the tests of TCP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.stack.tcp.script import Script


@pytest.fixture
def script() -> Iterator[Script]:
    """A script over IPv4; at its end, all that went out was expected."""
    with Script() as made:
        yield made
