from pathlib import Path
from types import SimpleNamespace

import pytest

from weft.engine import directory

HOME = Path("/home/someone")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WEFT_DIR", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", lambda: HOME)


def on(monkeypatch: pytest.MonkeyPatch, platform: str, user: int) -> None:
    monkeypatch.setattr(directory, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr("os.geteuid", lambda: user)


@pytest.mark.parametrize(
    ("platform", "user", "expected"),
    [
        ("linux", 0, Path("/etc/weft")),
        ("darwin", 0, Path("/etc/weft")),
        ("linux", 1000, HOME / ".config/weft"),
        ("freebsd14", 1000, HOME / ".config/weft"),
        ("darwin", 501, HOME / "Library/Application Support/weft"),
        ("win32", 1, HOME / "AppData/Roaming/weft"),
    ],
)
def test_directory_is_the_customary_one_of_platform_and_user(
    monkeypatch: pytest.MonkeyPatch, platform: str, user: int, expected: Path
) -> None:
    on(monkeypatch, platform, user)
    assert directory.default_directory() == expected


@pytest.mark.parametrize(
    ("platform", "variable"), [("linux", "XDG_CONFIG_HOME"), ("win32", "APPDATA"), ("darwin", "WEFT_DIR")]
)
def test_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, platform: str, variable: str) -> None:
    on(monkeypatch, platform, 1000)
    monkeypatch.setenv(variable, "/elsewhere")
    expected = Path("/elsewhere") if variable == "WEFT_DIR" else Path("/elsewhere/weft")
    assert directory.default_directory() == expected


def test_weft_dir_wins_for_root_and_an_empty_one_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "linux", 0)
    monkeypatch.setenv("WEFT_DIR", "")
    assert directory.default_directory() == Path("/etc/weft")
    monkeypatch.setenv("WEFT_DIR", "/elsewhere")
    assert directory.default_directory() == Path("/elsewhere")
