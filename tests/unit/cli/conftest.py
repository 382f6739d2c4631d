from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.unit.api.fake_engine import FakeEngine, serving_in_thread
from tests.unit.cli.machine import Machine
from tests.unit.cli.terminal import Terminal

# Python runs this at its start; a daemon then finds the fake where it looks for the engine.
SITECUSTOMIZE = """
import sys, types
module = types.ModuleType("weft.engine.engine")
def fake(name):
    if name != "Engine":
        raise AttributeError(name)
    from tests.unit.cli import fake_daemon
    return fake_daemon.Engine
module.__getattr__ = fake
sys.modules["weft.engine.engine"] = module
"""


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


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path / "site"), str(Path(__file__).parents[3])))
    machine = Machine(tmp_path / "node", environment)
    yield machine
    machine("down")
