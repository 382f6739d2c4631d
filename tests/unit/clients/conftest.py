"""Two hosts of the stack for each test, on both event loops, and certificates."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from tests.unit.api.streams.conftest import complaints, left, nodes, pytest_asyncio_loop_factories, right
from tests.unit.clients.certificates import Files

__all__ = ["complaints", "left", "nodes", "pytest_asyncio_loop_factories", "right"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home in which no shell finds anything to do before its command.

    What people have in theirs may take long, and leave locks behind when it is killed.
    """
    home, known = tmp_path / "home", pwd.getpwuid
    home.mkdir()
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd([*known(uid)[:5], str(home), known(uid)[6]]))
