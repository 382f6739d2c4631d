from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.unit.api.fake_engine import FakeEngine, serving_in_thread
from tests.unit.cli.terminal import Terminal


@pytest.fixture
def weft(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("WEFT_DIR", "WEFT_SOCKET", "WEFT_JSON", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    # Or a command of root would make an interface on this machine.
    monkeypatch.setattr("weft.cli.handover.Tun", _refuse)
    return Terminal(tmp_path, capsys)


@pytest.fixture
def node(weft: Terminal) -> Iterator[FakeEngine]:
    with serving_in_thread(weft.socket) as engine:
        yield engine


def _refuse(name: str, *, offloads: bool) -> NoReturn:
    raise PermissionError("a TUN needs CAP_NET_ADMIN")
