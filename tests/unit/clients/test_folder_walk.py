"""Paths in a folder: where they lead, and that none leads out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.clients.folder.walk import LINKS, open_below, place_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("walk")
    (base / "secret").write_text("secret")
    root = base / "root"
    (root / "deep" / "deeper").mkdir(parents=True)
    (root / "file").write_text("file")
    (root / "deep" / "inner").write_text("inner")
    links = {
        "to-file": "file",
        "to-inner": "deep/inner",
        "to-folder": "deep",
        "deep/up": "../file",
        "deep/deeper/up": "../../deep/./inner",
        "out": "../secret",
        "far-out": "deep/../../secret",
        "absolute": str(root / "file"),
        "nowhere": "missing",
        "round": "round",
        "to-out": "out",
        "chain0": "file",
        **{f"chain{number}": f"chain{number - 1}" for number in range(1, LINKS + 1)},
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    return base


@pytest.fixture
def top(base: Path) -> Iterator[int]:
    descriptor = os.open(base / "root", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    yield descriptor
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(descriptor)


def read(top: int, path: str) -> bytes:
    opened = open_below(top, os.fsencode(path).split(b"/"))
    try:
        return os.read(opened, 100)
    finally:
        os.close(opened)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("file", b"file"),
        ("deep/inner", b"inner"),
        ("deep//./inner", b"inner"),
        ("deep/../file", b"file"),
        ("to-file", b"file"),
        ("to-inner", b"inner"),
        ("to-folder/inner", b"inner"),
        ("to-folder/up", b"file"),
        ("deep/deeper/up", b"inner"),
        (f"chain{LINKS - 1}", b"file"),
    ],
)
def test_leads_to_a_file(top: int, path: str, content: bytes) -> None:
    assert read(top, path) == content


REFUSED = "../secret .. deep/../../secret to-folder/../../secret out to-out far-out absolute round pipe socket".split()


@pytest.mark.parametrize("path", [*REFUSED, f"chain{LINKS}"])
def test_is_refused(top: int, path: str) -> None:
    with pytest.raises(PermissionError):
        read(top, path)


@pytest.mark.parametrize("path", ["missing", "nowhere", "file/inner", "deep/missing/../inner"])
def test_is_not_there(top: int, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        read(top, path)


def test_no_path_is_the_folder_itself(top: int) -> None:
    opened = open_below(top, [])
    assert place_of(opened) == place_of(top)
    os.close(opened)


def test_folder_that_is_left_out_is_not_entered_whichever_way(top: int, base: Path) -> None:
    deep = os.open(base / "root" / "deep", os.O_RDONLY)
    place = place_of(deep)
    os.close(deep)
    for path in (b"deep", b"to-folder", b"deep/inner", b"to-inner", b"deep/deeper/up"):
        with pytest.raises(PermissionError):
            open_below(top, path.split(b"/"), {place})
    assert read(top, "file") == b"file"


NAMES = ["file", "deep", "inner", "deeper", "up", "out", "far-out", "to-folder", "..", ".", "", "round", "absolute"]


@given(names=st.lists(st.sampled_from(NAMES), max_size=8))
def test_whatever_is_opened_lies_in_the_folder(base: Path, names: list[str]) -> None:
    top = os.open(base / "root", os.O_RDONLY)
    try:
        opened = open_below(top, [os.fsencode(name) for name in names])
    except (PermissionError, FileNotFoundError):
        return
    finally:
        os.close(top)
    where = os.readlink(f"/proc/self/fd/{opened}")
    os.close(opened)
    assert Path(where).is_relative_to(base / "root")
