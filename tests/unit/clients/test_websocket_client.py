"""WebSockets of clients in the network, httpx2's of `node.http()` and aiohttp's: what a server may say, and its faults.

The same chapters of the Autobahn test suite as in test_websocket.py, from the other side.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from httpx2.websockets import HTTPXWSException, WebSocketDisconnect
from wsproto.events import BytesMessage, TextMessage

from tests.unit.api.streams.joined import Node
from tests.unit.api.streams.test_libraries import Connector
from tests.unit.clients.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, Socket, encode
from weft.clients.http.client import http_client

NORMAL, PROTOCOL_ERROR, NO_CODE, NO_TEXT, TOO_BIG = 1000, 1002, 1005, 1007, 1009
LARGEST = 2**20
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
END = Frame(CLOSE, NORMAL.to_bytes(2, "big"))

Heard = tuple[list[str | bytes], int | None]
"""The messages that came, and the code of the end."""
Hear = Callable[[Node], Awaitable[Heard]]


class Answers(Socket):
    """What the client says; it has to mask."""

    async def receive(self) -> Frame:
        first, length = await self.reader.readexactly(2)
        assert length & 0x80, "a client masks"
        length &= 0x7F
        if length >= 126:
            length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(length)
        return Frame(
            first & 15, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)), bool(first & 0x80)
        )


@asynccontextmanager
async def saying(right: Node, *said: bytes, deflates: bool = False) -> AsyncIterator[list[Frame]]:
    """A server that says these bytes on each WebSocket, and hears until there is no more; gives what it hears."""
    heard: list[Frame] = []
    tasks: set[asyncio.Task[None]] = set()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        asked = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"sec-websocket-key: ([^\r]*)", asked, re.IGNORECASE)
        assert key
        accept = base64.b64encode(hashlib.sha1(key[1] + MAGIC).digest())
        extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflates else b""
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, extension)
        )
        for each in said:
            writer.write(each)
            await asyncio.sleep(0)
        answers = Answers(asked, reader, writer)
        try:
            while True:
                heard.append(await answers.receive())
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await right.streams.start_server(speak, None, 80)
    try:
        yield heard
    finally:
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        server.close()


def of_server(*frames: Frame) -> bytes:
    return b"".join(encode(frame, is_masked=False) for frame in frames)


async def by_httpx2(left: Node) -> Heard:
    messages: list[str | bytes] = []
    code: int | None = None
    async with http_client(left.streams) as client:
        try:
            async with client.websocket("ws://right/chat", max_message_size_bytes=LARGEST) as socket:
                while code is None:
                    try:
                        message = await asyncio.wait_for(socket.receive(), 5)
                    except WebSocketDisconnect as end:
                        code = end.code
                    else:
                        assert isinstance(message, TextMessage | BytesMessage)
                        messages.append(message.data if isinstance(message.data, str) else bytes(message.data))
        except* HTTPXWSException:
            pass
    return messages, code


async def by_aiohttp(left: Node) -> Heard:
    messages: list[str | bytes] = []
    async with (
        aiohttp.ClientSession(connector=Connector(left)) as session,
        session.ws_connect("http://right:80/chat", compress=15, max_msg_size=LARGEST) as socket,
    ):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.ERROR:
                break
            messages.append(message.data)
        return messages, socket.close_code


@pytest.fixture(params=[by_httpx2, by_aiohttp], ids=["httpx2", "aiohttp"])
def hear(request: pytest.FixtureRequest) -> Hear:
    found: Hear = request.param
    return found


class TestFrames:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, LARGEST - 1])
    async def test_message_of_any_size(self, left: Node, right: Node, hear: Hear, size: int) -> None:
        async with saying(right, of_server(Frame(TEXT, b"x" * size), Frame(BINARY, bytes(size)), END)):
            assert await hear(left) == (["x" * size, bytes(size)], NORMAL)

    async def test_in_single_bytes(self, left: Node, right: Node, hear: Hear) -> None:
        whole = of_server(Frame(TEXT, b"hello"), END)
        async with saying(right, *(bytes([byte]) for byte in whole)):
            assert await hear(left) == (["hello"], NORMAL)

    async def test_message_that_is_too_large_is_not_kept(self, left: Node, right: Node, hear: Hear) -> None:
        said = of_server(*[Frame(BINARY, bytes(LARGEST), fin=False)] * 1, *[Frame(CONTINUATION, bytes(LARGEST))] * 2)
        async with saying(right, said):
            assert await hear(left) == ([], TOO_BIG)

    async def test_masked_ones_are_a_fault(self, left: Node, right: Node) -> None:
        """Of httpx2; aiohttp takes them as what they would be without."""
        async with saying(right, encode(Frame(TEXT, b"x"))):
            assert await by_httpx2(left) == ([], PROTOCOL_ERROR)
        async with saying(right, encode(Frame(TEXT, b"x")), of_server(END)):
            assert await by_aiohttp(left) == (["x"], NORMAL)

    @pytest.mark.parametrize("rsv", range(1, 8))
    async def test_reserved_bits_are_a_fault(self, left: Node, right: Node, hear: Hear, rsv: int) -> None:
        async with saying(right, of_server(Frame(TEXT, b"x", rsv=rsv))):
            assert await hear(left) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize("opcode", [*range(3, 8), *range(11, 16)])
    async def test_reserved_opcodes_are_a_fault(self, left: Node, right: Node, hear: Hear, opcode: int) -> None:
        async with saying(right, of_server(Frame(TEXT, b"before"), Frame(opcode, b"x"))):
            assert await hear(left) == (["before"], PROTOCOL_ERROR)


class TestControl:
    @pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))])
    async def test_ping_is_answered_between_fragments(
        self, left: Node, right: Node, hear: Hear, payload: bytes
    ) -> None:
        said = of_server(
            Frame(TEXT, b"he", fin=False), Frame(PING, payload), Frame(PONG, b"?"), Frame(CONTINUATION, b"llo"), END
        )
        async with saying(right, said) as heard:
            assert await hear(left) == (["hello"], NORMAL)
        assert heard[0] == Frame(PONG, payload)

    @pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
    async def test_that_is_too_long_or_in_fragments_is_a_fault(
        self, left: Node, right: Node, hear: Hear, opcode: int
    ) -> None:
        for frame in (Frame(opcode, bytes(126)), Frame(opcode, b"\x03\xe8", fin=False)):
            async with saying(right, of_server(frame)):
                assert await hear(left) == ([], PROTOCOL_ERROR)


class TestFragments:
    async def test_become_one_message(self, left: Node, right: Node, hear: Hear) -> None:
        pieces = [
            Frame(BINARY, b"", fin=False),
            *[Frame(CONTINUATION, b"ab", fin=False)] * 50,
            Frame(CONTINUATION, b""),
        ]
        async with saying(right, of_server(*pieces, END)):
            assert await hear(left) == ([b"ab" * 50], NORMAL)

    @pytest.mark.parametrize(
        "frames",
        [[Frame(CONTINUATION, b"x")], [Frame(TEXT, b"x", fin=False), Frame(TEXT, b"y")]],
        ids=["of nothing", "within another"],
    )
    async def test_that_do_not_fit_are_a_fault(self, left: Node, right: Node, hear: Hear, frames: list[Frame]) -> None:
        async with saying(right, of_server(*frames)):
            assert await hear(left) == ([], PROTOCOL_ERROR)


class TestText:
    async def test_cut_within_every_letter(self, left: Node, right: Node, hear: Hear) -> None:
        text = "Hello-µ@ßöäüàá-UTF-8!! \U0001f4a9"
        whole = text.encode()
        said = [
            frame
            for cut in range(len(whole))
            for frame in (Frame(TEXT, whole[:cut], fin=False), Frame(CONTINUATION, whole[cut:]))
        ]
        async with saying(right, of_server(*said, END)):
            assert await hear(left) == ([text] * len(whole), NORMAL)

    @pytest.mark.parametrize("text", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"abc\xc3"])
    async def test_that_is_none_is_a_fault_wherever_it_is_cut(
        self, left: Node, right: Node, hear: Hear, text: bytes
    ) -> None:
        for cut in range(len(text)):
            said = of_server(Frame(TEXT, text[:cut], fin=False), Frame(CONTINUATION, text[cut:]))
            async with saying(right, said):
                assert await hear(left) == ([], NO_TEXT)


class TestClosing:
    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1011, 3000, 4999])
    async def test_is_told_and_answered(self, left: Node, right: Node, hear: Hear, code: int) -> None:
        async with saying(right, of_server(Frame(CLOSE, code.to_bytes(2, "big") + b"why"))) as heard:
            assert await hear(left) == ([], code)
        assert [frame.opcode for frame in heard] == [CLOSE]

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1016, 2000, 2999])
    async def test_with_a_code_that_nobody_may_say_is_a_fault(
        self, left: Node, right: Node, hear: Hear, code: int
    ) -> None:
        async with saying(right, of_server(Frame(CLOSE, code.to_bytes(2, "big")))):
            assert await hear(left) == ([], PROTOCOL_ERROR)

    @pytest.mark.parametrize("payload", [b"\x03", b"\x03\xe8\xff"], ids=["half a code", "reason that is no text"])
    async def test_that_is_broken_is_a_fault(self, left: Node, right: Node, hear: Hear, payload: bytes) -> None:
        async with saying(right, of_server(Frame(CLOSE, payload))):
            messages, code = await hear(left)
        assert messages == []
        assert code in {PROTOCOL_ERROR, NO_TEXT}

    async def test_what_comes_behind_is_not_heard(self, left: Node, right: Node, hear: Hear) -> None:
        async with saying(right, of_server(END, Frame(TEXT, b"and another thing"))):
            assert await hear(left) == ([], NORMAL)


class TestCompression:
    async def test_is_undone(self, left: Node, right: Node) -> None:
        async with saying(right, of_server(Frame(TEXT, deflated(b"hello" * 100), rsv=4), END), deflates=True):
            assert await by_aiohttp(left) == (["hello" * 100], NORMAL)

    async def test_message_that_unpacks_to_too_much_is_not_unpacked(self, left: Node, right: Node) -> None:
        bomb = deflated(bytes(200 * LARGEST))
        assert len(bomb) < LARGEST / 4
        async with saying(right, of_server(Frame(BINARY, bomb, rsv=4)), deflates=True):
            assert await by_aiohttp(left) == ([], TOO_BIG)

    async def test_that_nobody_asked_for_is_a_fault(self, left: Node, right: Node) -> None:
        async with saying(right, of_server(Frame(TEXT, deflated(b"hello"), rsv=4))):
            assert await by_httpx2(left) == ([], PROTOCOL_ERROR)


def deflated(data: bytes) -> bytes:
    """As the payload of a frame."""
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]
