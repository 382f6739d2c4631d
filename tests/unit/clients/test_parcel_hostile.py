"""Senders and receivers that lie, stall or want to write elsewhere, and links that come in between."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.streams.joined import Node
from weft.clients.parcel import link as parcel_link
from weft.clients.parcel.folder import NOTHING, Conflict, Folder
from weft.clients.parcel.inbox import CONNECTIONS, Inbox, open_inbox
from weft.clients.parcel.link import BLOCK_BYTES, READ_BYTES, BrokenOffError, Link, RefusedError
from weft.clients.parcel.messages import (
    PORT,
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
    encode_words,
)
from weft.clients.parcel.receive import Received
from weft.clients.parcel.send import SendError, send
from weft.errors import DecodeError, PeerError, UsageError

HELLO = b"hello"
HASH = hashlib.sha256(HELLO).hexdigest()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    (tmp_path / "secret").write_bytes(b"12345")
    return tmp_path / "there"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "hello.txt").write_bytes(HELLO)
    return tmp_path / "hello.txt"


@asynccontextmanager
async def inbox_of(right: Node, there: Path, conflict: Conflict = "rename") -> AsyncIterator[Inbox]:
    async with await open_inbox(right.streams, there, allowed=lambda _: True, conflict=conflict) as inbox:
        yield inbox


@asynccontextmanager
async def link_to(left: Node, right: Node) -> AsyncIterator[Link]:
    async with Link(*await left.streams.open_connection(right.ipv6, PORT, limit=READ_BYTES)) as link:
        yield link


def entry(*path: str, size: int | None = len(HELLO)) -> Entry:
    return Entry(path=list(path), size_bytes=size)


class Tried:
    """What came of an attempt: what the receiver said last, and what it made of it."""

    def __init__(self, refused: str, received: Received) -> None:
        self.refused, self.received = refused, received


async def attempt(left: Node, right: Node, inbox: Inbox, *said: Message | bytes, size: int = 10**6) -> Tried:
    """Offer something, and say all of this, whatever is answered."""
    coming = asyncio.create_task(inbox.next())
    refused = ""
    async with link_to(left, right) as link:
        entries = [message for message in said if isinstance(message, Entry)]
        await link.say(Offer(entries=max(len(entries), 1), files=len(entries), size_bytes=size))
        await link.hear(Accept)
        with suppress(BrokenOffError):
            for message in said:
                await (link.give(message) if isinstance(message, bytes) else link.say(message))
        try:
            while True:
                await link.hear(Have, Compare, Leave, Done, Again)  # type: ignore[call-overload]
        except RefusedError as error:
            refused = str(error)
    return Tried(refused, await coming)


class TestSender:
    @pytest.mark.parametrize(
        "path",
        [
            *(["../secret"], ["..", "secret"], ["a", "..", "..", "secret"], ["/etc/passwd"], ["", "etc"], ["."], [""]),
            *(["a/../../secret"], ["..\\secret"], ["C:\\x"], ["a", "."], ["x\0"], ["\n"], ["nul"], ["x.part"]),
            *(["x\u202etxt"], ["é" * 200], ["a"] * 64 + ["b"], ["a" * 200] * 40),
        ],
        ids=lambda path: ascii("/".join(path))[:30],
    )
    async def test_that_wants_to_write_elsewhere_gets_nothing(
        self, left: Node, right: Node, there: Path, path: list[str]
    ) -> None:
        before = sorted(os.listdir(there.parent))
        async with inbox_of(right, there, "overwrite") as inbox:
            tried = await attempt(left, right, inbox, entry("fine"), entry(*path))
        assert tried.refused.startswith("what was said makes no sense there: expected ")
        assert isinstance(tried.received.error, PeerError)
        assert sorted(os.listdir(there.parent)) == before
        assert os.listdir(there) == []
        assert (there.parent / "secret").read_bytes() == b"12345"

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ([entry("a"), Start(from_bytes=0), b"hello!"], "no more bytes than the file has"),
            ([entry("a"), Start(from_bytes=0), b"hell", End(sha256=HASH)], "as many bytes as the file has"),
            ([entry("a"), Start(from_bytes=3), b"lo", End(sha256=HASH)], "to go on where the file ends"),
            ([entry("a"), End(sha256=HASH)], "start or leave"),
            ([entry("a"), b"hello"], "start or leave"),
            ([entry("a"), entry("A")], "form of its letters"),
            ([entry("a", size=10), entry("b", size=10**6)], "no more bytes than were offered"),
            ([Start(from_bytes=0)], "entry"),
            ([b"hello"], "entry"),
            ([Offer(entries=1, files=1, size_bytes=1)], "entry"),
            ([entry("a"), Start(from_bytes=0), Start(from_bytes=0)], "end or leave"),
        ],
        ids=str,
    )
    async def test_that_says_what_makes_no_sense_is_told_so(
        self, left: Node, right: Node, there: Path, said: list[Message | bytes], expected: str
    ) -> None:
        async with inbox_of(right, there) as inbox:
            tried = await attempt(left, right, inbox, *said)
        assert expected in tried.refused
        assert "makes no sense" in str(tried.received.error)
        assert not [name for name in os.listdir(there) if not name.endswith(".part")]

    @pytest.mark.parametrize(
        ("name", "path"), [("photos", [".ssh", "authorized_keys"]), ("photos", ["other"]), ("", [".profile"])]
    )
    async def test_that_sends_what_could_not_be_seen_in_its_offer_is_refused(
        self, left: Node, right: Node, there: Path, name: str, path: list[str]
    ) -> None:
        async with inbox_of(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            async with link_to(left, right) as link:
                await link.say(Offer(entries=2, files=2, size_bytes=10, name=name))
                await link.hear(Accept)
                await link.say(entry(name or "fine", "a"))
                await link.say(entry(*path))
                await link.hear(Have)
                with pytest.raises(RefusedError, match="what was offered by its name, and nothing hidden"):
                    await link.hear(Have)
            assert isinstance((await coming).error, PeerError)
        assert not any((there / each).exists() for each in (".ssh", ".profile", "other"))

    async def test_that_sends_other_bytes_than_it_says_leaves_nothing(
        self, left: Node, right: Node, there: Path
    ) -> None:
        async with inbox_of(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            async with link_to(left, right) as link:
                await link.say(Offer(entries=1, files=1, size_bytes=5))
                await link.hear(Accept)
                for message in (entry("a"), Start(from_bytes=0)):
                    await link.say(message)
                await link.give(b"hallo")
                await link.say(End(sha256=HASH))
                await link.hear(Have)
                assert (await link.hear(Done)).why == "what came has another hash; send it again"
            assert (await coming).left_out == ["a: what came has another hash; send it again"]
        assert os.listdir(there) == []

    async def test_learns_the_hash_of_nothing_that_it_did_not_send(self, left: Node, right: Node, there: Path) -> None:
        (there / "secret").write_bytes(b"12345")
        async with inbox_of(right, there, "skip") as inbox:
            coming = asyncio.create_task(inbox.next())
            async with link_to(left, right) as link:
                await link.say(Offer(entries=1, files=1, size_bytes=5))
                await link.hear(Accept)
                await link.say(entry("secret"))
                assert await link.hear(Compare) == Compare()
                await link.say(End(sha256=HASH))
                assert (await link.hear(Done)).why == "another file of this name is there"
            await coming

    async def test_in_place_of_a_part_a_link_is_not_followed(
        self, left: Node, right: Node, there: Path, file: Path
    ) -> None:
        folder = Folder(there, "rename", left.ipv6)
        (there / folder._part_name(["hello.txt"])).symlink_to("../secret")
        folder.close()
        async with inbox_of(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            with pytest.raises(SendError, match="it can't be written there: too many levels of symbolic links"):
                await send(left.streams, right.ipv6, [file])
            assert isinstance((await coming).error, OSError)
        assert (there.parent / "secret").read_bytes() == b"12345"
        assert not (there / "hello.txt").exists()

    async def test_folder_that_becomes_a_link_in_the_middle_leads_nowhere(
        self, left: Node, right: Node, there: Path
    ) -> None:
        outside = there.parent / "outside"
        outside.mkdir()
        async with inbox_of(right, there, "overwrite") as inbox:
            coming = asyncio.create_task(inbox.next())
            async with link_to(left, right) as link:
                await link.say(Offer(entries=1, files=1, size_bytes=5))
                await link.hear(Accept)
                await link.say(entry("sub", "hello.txt"))
                await link.hear(Have)
                (there / "sub").rmdir()
                (there / "sub").symlink_to(outside)
                await link.say(Start(from_bytes=0))
                with pytest.raises(RefusedError, match="it can't be written there: not a directory"):
                    await link.hear(Done)
            assert isinstance((await coming).error, NotADirectoryError)
        assert os.listdir(outside) == []

    async def test_of_another_version_is_told_which_is_spoken(self, left: Node, right: Node, there: Path) -> None:
        async with inbox_of(right, there), link_to(left, right) as link:
            await link.say(Offer(version=2, entries=1, files=1, size_bytes=1))
            with pytest.raises(RefusedError, match="it speaks version 1 of this, and not 2"):
                await link.hear(Accept)

    @pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x02{}", b"\0\xff\xff\xff", b"\x01\0\0\x01x"])
    async def test_that_speaks_something_else_is_told_so_and_others_have_their_turn(
        self, left: Node, right: Node, there: Path, file: Path, data: bytes
    ) -> None:
        async with inbox_of(right, there) as inbox:
            reader, writer = await left.streams.open_connection(right.ipv6, PORT)
            writer.write(data)
            assert b"makes no sense" in await reader.read()
            writer.close()
            await asyncio.gather(send(left.streams, right.ipv6, [file]), inbox.next())
        assert os.listdir(there) == ["hello.txt"]

    async def test_that_says_nothing_is_let_go(
        self, left: Node, right: Node, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("weft.clients.parcel.inbox.OFFER_S", 0.05)
        async with inbox_of(right, there):
            reader, writer = await left.streams.open_connection(right.ipv6, PORT)
            writer.write(encode_words(Wait()) * 10)
            assert await reader.read() == b""
            writer.close()

    async def test_that_stalls_is_let_go_and_its_part_stays(
        self, left: Node, right: Node, there: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with inbox_of(right, there) as inbox:
            coming = asyncio.create_task(inbox.next())
            async with link_to(left, right) as link:
                await link.say(Offer(entries=1, files=1, size_bytes=5))
                await link.hear(Accept)
                await link.say(entry("a"))
                await link.hear(Have)
                monkeypatch.setattr(parcel_link, "PATIENCE_S", 0.05)
                await link.say(Start(from_bytes=0))
                await link.give(b"hel")
                received = await coming
        assert str(received.error) == "it broke off after 3 of 5 bytes: no answer"
        assert [path.read_bytes() for path in there.iterdir()] == [b"hel"]  # noqa: ASYNC240

    async def test_those_that_are_too_many_are_not_let_in(
        self, left: Node, right: Node, there: Path, file: Path
    ) -> None:
        async with inbox_of(right, there) as inbox:
            crowd = [await left.streams.open_connection(right.ipv6, PORT) for _ in range(CONNECTIONS)]
            with pytest.raises(SendError):
                await send(left.streams, right.ipv6, [file])
            for _, writer in crowd:
                writer.close()
                await writer.wait_closed()
            while inbox._tasks:
                await asyncio.wait(inbox._tasks)
            await asyncio.gather(send(left.streams, right.ipv6, [file]), inbox.next())
        assert os.listdir(there) == ["hello.txt"]


Speaks = Callable[[Link], Awaitable[None]]


@asynccontextmanager
async def receiver(right: Node, speak: Speaks) -> AsyncIterator[None]:
    """Who receives, as a test likes it."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with Link(reader, writer) as link:
            with suppress(PeerError, DecodeError):
                await speak(link)

    def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(handle(reader, writer)))

    server = await right.streams.start_server(enter, None, PORT)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answers(*said: Message | bytes) -> Speaks:
    """A receiver that says this, whatever it hears, and listens to the end."""

    async def speak(link: Link) -> None:
        for message in said:
            await (link.give(message) if isinstance(message, bytes) else link.say(message))
        await link.until_closed()

    return speak


NO_SENSE = "what answers there is no `weft receive`, or speaks another version"


class TestReceiver:
    @pytest.mark.parametrize(
        "said",
        [
            [Have()],
            [b"x"],
            [Accept(), Accept()],
            [Accept(), Have(size_bytes=6, sha256=HASH)],
            [Accept(), Have(), Have()],
            [Accept(), Have(), Again()],
            [Accept(), Compare(), Again(), Again()],
            [Accept(), Start(from_bytes=0)],
            [Offer(entries=1, files=1, size_bytes=1)],
        ],
        ids=str,
    )
    async def test_that_says_what_makes_no_sense_is_told_of_in_one_line(
        self, left: Node, right: Node, file: Path, said: list[Message | bytes]
    ) -> None:
        async with receiver(right, answers(*said)), asyncio.timeout(10):
            with pytest.raises(SendError, match=re.escape(NO_SENSE)):
                await send(left.streams, right.ipv6, [file])

    async def test_that_speaks_something_else(self, left: Node, right: Node, file: Path) -> None:
        async def speak(link: Link) -> None:
            link._writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await link.until_closed()

        async with receiver(right, speak):
            with pytest.raises(SendError, match=re.escape(NO_SENSE)):
                await send(left.streams, right.ipv6, [file])

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ([Refuse(why="full")], "full"),
            ([Accept(), Refuse(why="full")], "full"),
            ([Accept(), Have(), Refuse(why="full")], "full"),
        ],
        ids=str,
    )
    async def test_that_refuses_is_heard_at_any_time(
        self, left: Node, right: Node, tmp_path: Path, said: list[Message], expected: str
    ) -> None:
        (tmp_path / "big").write_bytes(bytes(8 * BLOCK_BYTES))
        async with receiver(right, answers(*said)):
            with pytest.raises(SendError, match=rf"^fc00::2: {expected}$"):
                await send(left.streams, right.ipv6, [tmp_path / "big"])

    async def test_that_has_other_bytes_gets_all_of_them(self, left: Node, right: Node, file: Path) -> None:
        came = bytearray()

        async def speak(link: Link) -> None:
            await link.hear(Offer)
            await link.say(Accept())
            await link.hear(Entry)
            await link.say(Have(size_bytes=3, sha256="0" * 64))
            assert await link.hear(Start) == Start(from_bytes=0)
            while isinstance(data := await link.hear(End, Leave, or_bytes=True), bytes):
                came.extend(data)
            await link.say(Done())

        async with receiver(right, speak):
            sent = await send(left.streams, right.ipv6, [file])
        assert (bytes(came), sent.files, sent.resumed_from_bytes) == (HELLO, 1, 0)

    async def test_that_takes_its_time_is_waited_for_as_long_as_it_says_so(
        self, left: Node, right: Node, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parcel_link, "ALIVE_S", 0.02)
        monkeypatch.setattr(parcel_link, "PATIENCE_S", 0.3)

        async def speak(link: Link) -> None:
            await link.hear(Offer)
            await asyncio.sleep(0.9)  # three times the patience
            await link.refuse("no")

        async with receiver(right, speak):
            with pytest.raises(SendError, match="no"):
                await send(left.streams, right.ipv6, [file])

    @pytest.mark.parametrize("said", [[], [Accept()], [Accept(), Have()]], ids=str)
    async def test_that_goes_silent_is_given_up(
        self, left: Node, right: Node, file: Path, monkeypatch: pytest.MonkeyPatch, said: list[Message]
    ) -> None:
        async def speak(link: Link) -> None:
            for message in said:
                await link.say(message)
            right.is_cut = True
            await link.until_closed()

        async with receiver(right, speak):
            monkeypatch.setattr(parcel_link, "PATIENCE_S", 0.2)
            monkeypatch.setattr(parcel_link, "LINGER_S", 0.05)
            with pytest.raises(SendError, match="no answer"):
                await send(left.streams, right.ipv6, [file])


async def test_part_that_was_put_into_its_place_a_moment_ago_is_not_taken_for_one(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process opens the part just before this one renames it, and gets its lock just after."""
    folder = Folder(there, "rename", "fc00::1")
    part = folder.begin(["a"], NOTHING)
    part.write(HELLO)
    opened: list[Any] = []

    def lock(descriptor: int) -> bool:
        if not opened:
            opened.append(part.finish())
            part.close(keep=True)
        return True

    monkeypatch.setattr("weft.clients.parcel.folder.try_lock", lock)
    with pytest.raises(UsageError, match="another weft is writing it"):
        folder.begin(["a"], NOTHING)
    folder.close()
    assert [(path.name, path.read_bytes()) for path in there.iterdir()] == [("a", HELLO)]  # noqa: ASYNC240
