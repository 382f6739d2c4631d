"""POLL and events, as level and as edge."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tests.unit.netd.served import Served
from weft import netd
from weft.netd.messages import Ready
from weft.netd.status import Status

READABLE, WRITABLE = Ready.READABLE, Ready.WRITABLE


async def pair(served: Served, client: netd.Client) -> tuple[netd.Socket, asyncio.StreamWriter]:
    """A socket of the client, and the other end."""
    listener = await client.socket()
    port = (await listener.listen()).port
    _, writer = await served.right.streams.open_connection(served.left.ipv6, port)
    socket = await listener.accept()
    return socket, writer


async def test_level_is_told_as_long_as_it_is_so(served: Served, client: netd.Client) -> None:
    socket, writer = await pair(served, client)
    assert await client.poll({socket: READABLE}, timeout_s=0) == {}
    writer.write(b"x")
    for _ in range(3):
        assert await client.poll({socket: READABLE}) == {socket.number: READABLE}
    assert await socket.receive() == b"x"
    assert await client.poll({socket: READABLE}, timeout_s=0.01) == {}
    assert await client.poll({socket: READABLE | WRITABLE}) == {socket.number: WRITABLE}
    writer.close()


async def test_edge_is_told_once_and_again_when_more_comes(served: Served, client: netd.Client) -> None:
    socket, writer = await pair(served, client)
    writer.write(b"x")
    assert await client.poll({socket: READABLE}, edge=True) == {socket.number: READABLE}
    assert await client.poll({socket: READABLE}, edge=True, timeout_s=0.01) == {}
    waiting = asyncio.create_task(client.poll({socket: READABLE}, edge=True))
    await asyncio.sleep(0.01)
    writer.write(b"y")
    assert await waiting == {socket.number: READABLE}
    assert await socket.receive() == b"xy"
    writer.close()


async def test_edges_of_one_socket_do_not_hide_those_of_another(served: Served, client: netd.Client) -> None:
    """The seed had one flag for all sockets, so that a second one was never told while the first was readable."""
    (first, one), (second, two) = await pair(served, client), await pair(served, client)
    wanted = {first: READABLE, second: READABLE}
    one.write(b"x")
    assert await client.poll(wanted, edge=True) == {first.number: READABLE}
    two.write(b"y")
    assert await client.poll(wanted, edge=True) == {second.number: READABLE}
    one.close()
    two.close()


async def test_edge_that_was_taken_meanwhile_is_none(served: Served, client: netd.Client) -> None:
    socket, writer = await pair(served, client)
    writer.write(b"x")
    assert await socket.receive() == b"x"
    assert await client.poll({socket: READABLE}, edge=True, timeout_s=0.01) == {}
    writer.close()


async def test_events_as_edge_come_once_for_each_that_happens(served: Served, client: netd.Client) -> None:
    socket, writer = await pair(served, client)
    async with aclosing(client.events(READABLE)) as events:
        first = asyncio.create_task(anext(events))
        await asyncio.sleep(0.01)
        writer.write(b"x")
        assert await first == (socket.number, READABLE)
        second = asyncio.create_task(anext(events))
        await client.stats()
        assert not second.done()
        writer.close()
        number, flags = await second
        assert (number, flags & READABLE) == (socket.number, READABLE)


async def test_events_as_level_come_until_all_is_taken(served: Served, client: netd.Client) -> None:
    socket, writer = await pair(served, client)
    writer.write(b"four")
    await client.poll({socket: READABLE})
    async with aclosing(client.events(READABLE, socket=socket, edge=False)) as events:
        for rest in (b"fo", b"ur"):
            assert await anext(events) == (socket.number, READABLE)
            assert await socket.receive(2) == rest
        more = asyncio.create_task(anext(events))
        await client.stats()
        assert not more.done()
        writer.write(b"x")
        assert await more == (socket.number, READABLE)
    writer.close()


async def test_every_client_has_its_own_events(served: Served, client: netd.Client) -> None:
    """The seed had one subscriber, whom the next one replaced."""
    async with netd.Client(served.path) as other:
        (mine, one), (theirs, two) = await pair(served, client), await pair(served, other)
        async with aclosing(client.events(READABLE)) as my_events, aclosing(other.events(READABLE)) as their_events:
            both = asyncio.gather(anext(my_events), anext(their_events))
            await asyncio.sleep(0.01)
            one.write(b"x")
            two.write(b"x")
            assert await both == [(mine.number, READABLE), (theirs.number, READABLE)]
        one.close()
        two.close()


async def test_new_sockets_of_a_client_that_wants_all_are_told(served: Served, client: netd.Client) -> None:
    async with aclosing(client.events(READABLE)) as events:
        first = asyncio.create_task(anext(events))
        await asyncio.sleep(0.01)
        listener = await client.socket()
        port = (await listener.listen()).port
        _, writer = await served.right.streams.open_connection(served.left.ipv6, port)
        assert await first == (listener.number, READABLE)
        socket = await listener.accept()
        writer.write(b"x")
        while (event := await anext(events))[0] != socket.number:
            pass
        assert event[1] == READABLE
        writer.close()


async def test_socket_that_there_is_not_is_told_at_once(client: netd.Client) -> None:
    socket = await client.socket()
    await socket.close()
    assert await client.poll({socket: READABLE}) == {socket.number: Ready.INVALID}


async def test_flags_that_there_are_not(client: netd.Client) -> None:
    socket = await client.socket("datagram")
    with pytest.raises(netd.NetdError) as caught:
        await client.poll({socket: Ready(64)})
    assert caught.value.status is Status.INVALID


async def test_many_sockets_in_one_poll(served: Served, client: netd.Client) -> None:
    sockets = [await client.socket("datagram") for _ in range(1000)]
    for socket in sockets:
        await socket.bind()
    waiting = asyncio.create_task(client.poll(dict.fromkeys(sockets, READABLE), edge=True))
    other = await client.socket("datagram")
    await asyncio.sleep(0.01)
    target = sockets[613]
    await other.send(b"x", (served.left.ipv6, (await target.status()).local.port))
    assert await waiting == {target.number: READABLE}
    await client.poll({target: READABLE}, timeout_s=0)
