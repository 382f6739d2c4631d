"""Conditions and ranges of HTTP, whatever a client writes into them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from weft.clients.folder.range import date_of, part_of, tag_of

SIZE = 1000
HEADERS = ("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> os.stat_result:
    path = tmp_path_factory.mktemp("range") / "file"
    path.write_bytes(bytes(SIZE))
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    return Path(path).stat()


TEXTS = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40),
    st.from_regex(r"(bytes|lines)=[0-9]{0,25}-[0-9]{0,25}(,[0-9]*-[0-9]*)?", fullmatch=True),
    st.from_regex(r'(W/)?"[0-9a-z-]{0,8}"(, \*)?', fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", fullmatch=True),
)


@given(
    headers=st.dictionaries(st.sampled_from(HEADERS), TEXTS),
    method=st.sampled_from(["GET", "HEAD"]),
    size=st.integers(0, 1 << 63),
    changed_s=st.integers(-(1 << 63), 1 << 63),
)
def test_whatever_is_asked_for_lies_in_the_file(
    headers: dict[str, str], method: str, size: int, changed_s: int
) -> None:
    found: Any = SimpleNamespace(st_size=size, st_mtime=float(changed_s), st_mtime_ns=changed_s * 10**9, st_ino=1)
    part = part_of(make_mocked_request(method, "/", headers=headers), found)
    assert part.status in {200, 206, 304, 412, 416}
    if part.status == 206:
        assert part.count > 0
        assert 0 <= part.start < part.start + part.count <= size
        assert method == "GET"
        assert "Range" in headers
    else:
        assert (part.start, part.count) == (0, size if part.status == 200 else 0)


@given(first=st.integers(0, 2 * SIZE), last=st.integers(0, 2 * SIZE))
def test_range_is_what_a_list_has(found: os.stat_result, first: int, last: int) -> None:
    part = part_of(make_mocked_request("GET", "/", headers={"Range": f"bytes={first}-{last}"}), found)
    wanted = range(SIZE)[first : last + 1]
    if last < first:
        assert (part.status, part.count) == (200, SIZE)
    elif wanted:
        assert (part.status, part.start, part.count) == (206, wanted[0], len(wanted))
    else:
        assert part.status == 416


def test_version_is_another_when_anything_changed(found: os.stat_result, tmp_path: Path) -> None:
    tags = {tag_of(found)}
    path = tmp_path / "file"
    for data, at in ((b"a", 1), (b"b", 2), (b"bc", 2)):
        path.write_bytes(data)
        os.utime(path, ns=(at, at))
        tags.add(tag_of(path.stat()))
    assert len(tags) == 4
    assert date_of(path.stat()).microsecond == 0
