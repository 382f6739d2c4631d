"""What is said of parcels, byte by byte, and which names and paths there may be in it."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft.clients.parcel.messages import (
    BYTES,
    ENTRIES,
    HEADER_BYTES,
    LIMITS,
    NAME_BYTES,
    PARTS,
    PATH_BYTES,
    REASON,
    WORDS,
    Accept,
    Again,
    Compare,
    Done,
    End,
    Entry,
    Have,
    Leave,
    Message,
    Offer,
    Refuse,
    Start,
    Wait,
    decode_header,
    decode_words,
    encode_header,
    encode_words,
    shortened,
)
from weft.clients.parcel.names import Paths, fault_of
from weft.errors import DecodeError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SIZES = st.integers(0, 2**60)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Offer, entries=st.integers(1, ENTRIES), files=st.integers(0, ENTRIES), size_bytes=SIZES, name=TEXT),
    st.builds(
        Entry,
        path=st.lists(TEXT, min_size=1, max_size=PARTS),
        size_bytes=st.none() | SIZES,
        time_s=st.integers(0, 2**33),
        is_program=st.booleans(),
    ),
    st.builds(Have, size_bytes=SIZES, sha256=HASHES | st.just("")),
    st.builds(Start, from_bytes=SIZES),
    st.builds(End, sha256=HASHES),
    *(st.builds(kind, why=TEXT) for kind in (Leave, Done, Refuse)),
    *(st.builds(kind) for kind in (Accept, Compare, Again, Wait)),
)


@given(MESSAGES)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    frame = encode_words(message)
    assert decode_header(frame[:HEADER_BYTES]) == (WORDS, len(frame) - HEADER_BYTES)
    assert decode_words(frame[HEADER_BYTES:]) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "version",
    "entries",
    "files",
    "size_bytes",
    "name",
    "path",
    "time_s",
    "is_program",
    "sha256",
    "from_bytes",
    "why",
]
KINDS = ["offer", "accept", "entry", "have", "compare", "start", "end", "leave", "done", "again", "wait", "refuse"]


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda kind, rest: msgspec.json.encode({"type": kind, **rest}),
        st.sampled_from(KINDS),
        st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6),
    )
)
@example(b"[" * 60_000)
@example(b'{"type":"leave","why":"\\ud800"}')
@example(b'{"type":"offer","x":' + b"[" * 60_000)
def test_whatever_comes_is_a_message_within_its_bounds_or_a_decode_error(words: bytes) -> None:
    try:
        message = decode_words(words)
    except DecodeError:
        return
    assert decode_words(encode_words(message)[HEADER_BYTES:]) == message


@pytest.mark.parametrize(
    "words",
    [
        {"type": "offer", "entries": 0, "files": 0, "size_bytes": 0},
        {"type": "offer", "entries": ENTRIES + 1, "files": 0, "size_bytes": 0},
        {"type": "offer", "entries": 1, "files": 1, "size_bytes": -1},
        {"type": "offer", "entries": 1, "files": 1, "size_bytes": 2**63},
        {"type": "offer", "entries": 1, "files": 1, "size_bytes": 0, "name": "x" * (NAME_BYTES + 1)},
        {"type": "entry", "path": [], "size_bytes": 0},
        {"type": "entry", "path": ["x"] * (PARTS + 1), "size_bytes": 0},
        {"type": "entry", "path": ["x" * (NAME_BYTES + 1)], "size_bytes": 0},
        {"type": "entry", "path": "x", "size_bytes": 0},
        {"type": "entry", "path": ["x"], "size_bytes": 0, "time_s": 2**40},
        {"type": "entry", "path": ["x"], "size_bytes": 0, "time_s": -1},
        {"type": "have", "sha256": "f" * 63},
        {"type": "have", "sha256": "F" * 64},
        {"type": "end", "sha256": "f" * 64 + "\n"},
        {"type": "refuse", "why": "x" * (REASON + 1)},
        {"type": "nothing"},
        {},
    ],
)
def test_what_is_out_of_its_bounds_is_no_message(words: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode_words(msgspec.json.encode(words))


def test_what_a_later_version_adds_is_passed_over() -> None:
    words = {"type": "offer", "version": 2, "entries": 1, "files": 1, "size_bytes": 0, "color": ["blue"]}
    assert decode_words(msgspec.json.encode(words)) == Offer(version=2, entries=1, files=1, size_bytes=0)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_header_is_one_within_the_bounds_or_a_decode_error(header: bytes) -> None:
    try:
        kind, length = decode_header(header)
    except DecodeError:
        assert header[0] not in LIMITS or not 1 <= int.from_bytes(header[1:], "big") <= LIMITS[header[0]]
    else:
        assert encode_header(kind, length) == header


@pytest.mark.parametrize("kind", [WORDS, BYTES])
def test_frame_of_nothing_and_of_too_much_are_none(kind: int) -> None:
    for length in (0, LIMITS[kind] + 1):
        with pytest.raises(DecodeError):
            decode_header(bytes([kind]) + length.to_bytes(3, "big"))


@given(st.text())
def test_any_reason_can_be_said(why: str) -> None:
    assert isinstance(decode_words(encode_words(Leave(why=shortened(why)))[HEADER_BYTES:]), Leave)


def test_longest_path_fits_into_a_frame() -> None:
    path = ['"' * 62] * (PARTS - 1)
    assert Paths().add(path) == ""
    assert len("/".join(path)) <= PATH_BYTES
    assert len(encode_words(Entry(path=path, size_bytes=2**60))) <= LIMITS[WORDS]


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            *(
                "notes.txt",
                ".profile",
                "...",
                "a b",
                " a",
                "é",
                "日本",
                "a\N{NO-BREAK SPACE}b",
                "x" * 255,
                "#~$%&'()!@^`{}",
            ),
            *("console.txt", "com", "com10", "nul2", "party", "apart", ".partial", "a.part.txt", "👨\u200d👩\u200d👧"),
            *("a:b", "what?", "*", "trailing.", "trailing "),
        ],
    )
    def test_that_may_be(self, name: str) -> None:
        assert fault_of(name, windows=False) == ""

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            *((name, "is no name") for name in ("", ".", "..")),
            *((name, "slash") for name in ("/", "a/b", "/etc/passwd", "../x", "a\\b", "\\\\host\\share", "a\0b", "\0")),
            *(
                (name, "control")
                for name in ("a\nb", "\r", "\x1b[2J", "\x7f", "\x85", "a\u2028b", "txt\u202egnp.exe", "\u2066a")
            ),
            *((name, "no text") for name in (os.fsdecode(b"\xff"), "\ud800")),
            *((name, "255 bytes") for name in ("x" * 256, "é" * 128, "日" * 86)),
            *(
                (name, "device")
                for name in ("CON", "nul", "Aux.txt", "COM1", "lpt9.tar.gz", "com¹", "CONIN$", "prn .txt")
            ),
            *((name, ".part") for name in ("x.part", ".part", "X.PART", "disk.img.0123abcd.part")),
        ],
    )
    def test_that_may_not(self, name: str, fault: str) -> None:
        assert fault in fault_of(name, windows=False)
        assert fault in Paths().add(["fine", name])
        assert fault in Paths().add([name, "fine"])

    @pytest.mark.parametrize("name", ["a:b", "what?", "*", "trailing.", "trailing ", 'x"', "<", ">", "|"])
    def test_that_windows_can_not_have(self, name: str) -> None:
        assert fault_of(name, windows=True) == "has a name that Windows can't have"

    @given(st.text(max_size=300))
    def test_that_may_be_are_one_step_down_and_can_be_written(self, name: str) -> None:
        if fault_of(name):
            return
        assert os.path.normpath(os.path.join("/top", name)) == f"/top/{name}"
        assert len(os.fsencode(name)) <= NAME_BYTES


class TestPaths:
    @pytest.mark.parametrize(
        ("first", "second", "fault"),
        [
            (["a"], ["a"], "twice"),
            (["a"], ["A"], "form of its letters"),
            (["straße"], ["STRASSE"], "form of its letters"),
            (["\N{LATIN SMALL LETTER E WITH ACUTE}"], ["e\N{COMBINING ACUTE ACCENT}"], "form of its letters"),
            (["a", "b"], ["A", "c"], "form of its letters"),
            (["a"], ["a", "b"], "twice"),
            (["a", "b"], ["a"], "twice"),
        ],
    )
    def test_that_are_one_file_on_some_system(self, first: list[str], second: list[str], fault: str) -> None:
        paths = Paths()
        assert paths.add(first) == ""
        assert fault in paths.add(second)
        # What was refused is not known.
        assert paths.add(["other"]) == ""

    def test_that_go_together(self) -> None:
        paths = Paths()
        assert paths.add(["a"], is_folder=True) == ""
        for path in (["a", "b"], ["a", "c"], ["b"], ["d", "a", "b"]):
            assert paths.add(path) == ""

    def test_that_are_too_deep_or_too_long(self) -> None:
        assert "deep" in Paths().add(["x"] * (PARTS + 1))
        assert "deep" in Paths().add([])
        assert f"{PATH_BYTES} bytes" in Paths().add(["x" * 100] * 41)
