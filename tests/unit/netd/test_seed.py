"""The defects of the seed's own netd, each named by the test that would fail if we had it.

| of the seed                                          | test                                                        |
|------------------------------------------------------|-------------------------------------------------------------|
| a slow call stood still for all                      | test_hostile: test_slow_calls_hold_nothing_up               |
| one subscriber for all                               | test_polling: test_every_client_has_its_own_events          |
| one edge for all sockets                             | test_polling: test_edges_of_one_socket_do_not_hide_those_… |
| sockets belonged to nobody, and to nobody's end      | test_hostile: test_client_that_dies_leaves_nothing          |
| a socket could be used by whoever guessed its number | test_hostile: test_client_cannot_name_another_s_socket      |
| the backlog was ignored                              | test_sockets: test_backlog_counts                           |
| the listener became the connection                   | test_sockets: test_listener_gives_one_connection_after_… |
| one datagram was kept, and the next one replaced it  | test_sockets: test_datagrams_that_wait_keep_their_order     |
| drops were always 0                                  | test_sockets: test_stats_count_what_passes_and_what_… |
| all others                                           | here                                                        |

Those of TCP, UDP and DNS themselves (numbers that wrap, lengths and checksums not looked at, whose answer it is) are
tested with the stack.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from itertools import pairwise

import pytest

from tests.unit.netd.served import Served, on_stack, raw
from weft import netd
from weft.netd import messages
from weft.netd.layout import NOWHERE
from weft.netd.messages import MAX_DATA_BYTES, Code, Ready
from weft.netd.status import Status
from weft.stack.tcp.receiver import INITIAL_LIMIT


async def pair(served: Served, client: netd.Client) -> tuple[netd.Socket, asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket of the client, and the other end."""
    listener = await client.socket()
    port = (await listener.listen()).port
    reader, writer = await served.right.streams.open_connection(served.left.ipv6, port)
    return await listener.accept(), reader, writer


async def test_connection_is_there_before_it_is_accepted(served: Served, client: netd.Client) -> None:
    """It answered a SYN when somebody accepted, and took the connection for made without the last acknowledgment."""
    listener = await client.socket()
    port = (await listener.listen()).port
    assert await client.poll({listener: Ready.READABLE}, timeout_s=0) == {}
    _, writer = await asyncio.wait_for(served.right.streams.open_connection(served.left.ipv6, port), 1)
    writer.write(b"early")
    assert await client.poll({listener: Ready.READABLE}) == {listener.number: Ready.READABLE}
    assert await (await listener.accept()).receive() == b"early"
    writer.close()


async def test_data_is_not_cut_at_two_hundred_bytes(served: Served, client: netd.Client) -> None:
    """A RECV gave 200 bytes, although the protocol promised more."""
    socket, _, writer = await pair(served, client)
    whole = bytes(range(256)) * 100
    writer.write(whole)
    while (await socket.status()).readable < len(whole):
        pass
    assert await socket.receive() == whole
    writer.close()


async def test_what_is_sent_while_nothing_passes_arrives_later(served: Served, client: netd.Client) -> None:
    """A SEND said that all was sent even if nothing had left, and nothing was ever sent again."""
    socket, reader, writer = await pair(served, client)
    served.left.is_cut = True
    assert await socket.send(b"lost") == 4
    assert await client.poll({socket: Ready.READABLE}, timeout_s=0.01) == {}
    served.left.is_cut = False
    assert await asyncio.wait_for(reader.readexactly(4), 3) == b"lost"
    writer.close()


@on_stack
@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_window_that_is_just_filled_loses_nothing(served: Served, client: netd.Client, more: int) -> None:
    """A payload as large as the whole buffer made its head meet its tail, and all of it vanished."""
    socket, _, writer = await pair(served, client)
    whole = bytes(range(251)) * (INITIAL_LIMIT // 251 + 2)
    whole = whole[: INITIAL_LIMIT + more]
    writer.write(whole)
    while (await socket.status()).readable < min(INITIAL_LIMIT, len(whole)):
        pass
    writer.close()
    assert await socket.receive_all() == whole


async def test_last_words_come_before_the_end(served: Served, client: netd.Client) -> None:
    """A FIN with data threw the data away."""
    socket, _, writer = await pair(served, client)
    writer.write(b"last words")
    writer.write_eof()
    assert [await socket.receive(), await socket.receive()] == [b"last words", b""]
    writer.close()


async def test_end_of_both_sides_leaves_nothing_half_open(served: Served, client: netd.Client) -> None:
    """Who closed after the other side had, said nothing of it."""
    socket, reader, writer = await pair(served, client)
    writer.write_eof()
    assert await socket.receive() == b""
    await socket.close()
    assert await asyncio.wait_for(reader.read(), 1) == b""
    writer.close()
    while served.backend.counts().connections or served.right.host.tcp.connections:  # noqa: ASYNC110 - a host tells nobody
        await asyncio.sleep(0)


async def test_shutdown_is_not_the_end(served: Served, client: netd.Client) -> None:
    """Its `shutdown` closed the socket, so that no answer came any more."""
    socket, reader, writer = await pair(served, client)
    await socket.send(b"question")
    await socket.shutdown()
    assert await reader.read() == b"question"
    writer.write(b"answer")
    writer.close()
    assert await socket.receive_all() == b"answer"


async def test_end_is_told_from_nothing_yet(served: Served, client: netd.Client) -> None:
    """Nothing yet, the end and a failure are three answers, and three states."""
    socket, _, writer = await pair(served, client)
    with pytest.raises(netd.NetdError) as caught:
        await socket.receive(wait=False)
    assert caught.value.status is Status.WOULD_BLOCK
    assert (await socket.status()).flags == Ready.WRITABLE
    writer.write_eof()
    assert await socket.receive() == b""
    status = await socket.status()
    assert (status.flags, status.error) == (Ready.WRITABLE | Ready.READABLE | Ready.END, Status.OK)
    writer.transport.abort()


async def test_ports_are_neither_in_use_nor_in_order(served: Served, client: netd.Client) -> None:
    """Its ports counted up, whoever had them."""
    taken = [await client.socket("datagram") for _ in range(50)]
    ports = [(await socket.bind()).port for socket in taken]
    assert len(set(ports)) == len(ports)
    assert min(ports) >= 1024
    assert sum(after - before == 1 for before, after in pairwise(ports)) < 5


async def test_socket_says_where_it_is(served: Served, client: netd.Client) -> None:
    """Its libc had no `getsockname` and no `getpeername`."""
    socket, _, writer = await pair(served, client)
    status = await socket.status()
    assert status.remote.port == writer.get_extra_info("sockname")[1]
    assert status.local.port == writer.get_extra_info("peername")[1]
    assert [len(status.local.address), len(status.remote.address)] == [16, 16]
    writer.close()


async def test_each_ping_hears_its_own_answer(served: Served, client: netd.Client) -> None:
    """Any reply was an answer, after 0 ms, and the time-out was not looked at."""
    begin = asyncio.get_running_loop().time()
    six, four, nobody = await asyncio.gather(
        client.ping(served.right.ipv6),
        client.ping(served.right.ipv4),
        client.ping("fc00::99", timeout_s=0.05),
        return_exceptions=True,
    )
    assert isinstance(six, float)
    assert isinstance(four, float)
    assert min(six, four) > 0
    assert isinstance(nobody, netd.NetdError)
    assert nobody.status is Status.TIMED_OUT
    assert 0.05 <= asyncio.get_running_loop().time() - begin < 1


@pytest.mark.parametrize("name", [b"", b"a" * 254, b"a\0b", "schön".encode()])
async def test_name_that_can_be_none_is_refused(served: Served, name: bytes) -> None:
    """Its query ran over its buffer where a name was long."""
    async with raw(served) as client:
        assert await client.ask(Code.DNS_RESOLVE, messages.Resolve(0, 0, name)) == Status.INVALID


async def test_names_are_looked_up_side_by_side(served: Served, client: netd.Client) -> None:
    """It looked up one name at a time, and of the answer only the first record, if that was an IPv4 address."""
    served.network.hang = asyncio.Event()
    asking = [asyncio.create_task(client.resolve(name)) for name in ("right", "nobody", "192.0.2.1", "fc00::7")]
    while (await client.stats()).waiting != len(asking):
        pass
    served.network.hang.set()
    right, nobody, four, six = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(right, list)
    assert [len(right), four, six] == [2, [ip_address("192.0.2.1")], [ip_address("fc00::7")]]
    assert isinstance(nobody, netd.NetdError)


async def test_what_a_socket_cannot_do_is_not_said_to_be_done(client: netd.Client) -> None:
    """Its `setsockopt` said yes to everything and did nothing."""
    socket = await client.socket("datagram")
    await socket.bind()
    for asked in (socket.shutdown(), socket.accept(), socket.listen()):
        with pytest.raises(netd.NetdError) as caught:
            await asked
        assert caught.value.status is Status.NOT_SUPPORTED


async def test_largest_message_and_nothing_larger(served: Served, client: netd.Client) -> None:
    """Three documents told of three sizes of buffers; ours is a number that the protocol is held to."""
    socket, reader, writer = await pair(served, client)
    whole = bytes(MAX_DATA_BYTES)
    assert (await asyncio.gather(socket.send(whole), reader.readexactly(MAX_DATA_BYTES)))[1] == whole
    async with raw(served) as other:
        other.say(Code.SEND, 1, messages.Send(1, 0, NOWHERE, bytes(MAX_DATA_BYTES + 64)))
        assert await other.hear() == (0x80, 0, Status.INVALID, b"")
        assert await other.is_let_go()
    writer.close()
