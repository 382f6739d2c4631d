"""What the tests against other implementations share: the lab and its output on a failure, both ends, a web server."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

import pytest

from tests.interop.ends import Ends, connected_ends
from tests.system.conftest import lab, pytest_runtest_makereport
from tests.system.web import Web

__all__ = ["DISK", "ends", "lab", "pytest_runtest_makereport", "web"]

DISK: Final = Random("disk").randbytes(3_000_000)


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    with connected_ends() as ends:
        yield ends


@pytest.fixture(scope="module")
def web(ends: Ends) -> Web:
    """nginx for bob, at all his addresses, with `DISK` as disk.img; it does not run yet."""
    web = Web(ends.bob, ends.pair.lab.directory("web"), "bob", "bob.weft", ends.pair.bob.address)
    (web.files / "disk.img").write_bytes(DISK)
    (web.files / "notes.txt").write_text("hello\n")
    return web
