"""What the programs at the ends of streams do, over the kernel's sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio
from bench.generators import traffic
from bench.generators.traffic import REQUEST_BYTES, SHORT, SINK, WRITE_BYTES, Services
from bench.generators.verbs import answer

HOST = "127.0.0.1"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


class Loopback:
    """The kernel's sockets, on ports of their own."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}

    async def open_connection(self, host: str, port: int) -> traffic.Streams:
        return await asyncio.open_connection(host, self.ports[port])

    async def start_server(self, handle: object, host: str | None, port: int, *, backlog: int) -> asyncio.Server:
        server = await asyncio.start_server(handle, host, 0, backlog=backlog)  # type: ignore[arg-type]
        self.ports[port] = server.sockets[0].getsockname()[1]
        return server


@pytest_asyncio.fixture
async def services() -> AsyncIterator[Services]:
    services = Services(Loopback())
    await services.start(HOST)
    yield services
    for server in services.servers:
        server.close()


async def test_transfer_counts_what_arrived_over_all_connections(services: Services) -> None:
    done = await traffic.transfer(services.network, HOST, streams=3, seconds=0.05)
    assert done["bytes"] >= 3 * WRITE_BYTES
    assert done["bytes"] % WRITE_BYTES == 0
    assert done["seconds"] >= 0.05
    assert services.opened == 3


async def test_sink_forgets_a_connection_that_has_ended(services: Services) -> None:
    await traffic.transfer(services.network, HOST, streams=1, seconds=0)
    assert not services.arrived


async def test_connections_are_opened_and_closed_by_all_clients_until_the_time_is_over(services: Services) -> None:
    done = await traffic.open_and_close(services.network, HOST, clients=4, seconds=0.05)
    assert done["count"] >= 4
    assert done["seconds"] >= 0.05


async def test_short_connection_is_closed_by_the_server_at_its_end_only(services: Services) -> None:
    reader, writer = await services.network.open_connection(HOST, SHORT)
    reading = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0.02)
    assert not reading.done()
    writer.write_eof()
    assert await reading == b""
    writer.close()
    await writer.wait_closed()


async def test_each_request_is_timed(services: Services) -> None:
    times = (await traffic.ask(services.network, HOST, seconds=0.05))["times"]
    assert times
    assert all(0 < each < 1000 for each in times)
    assert sum(times) >= 50


async def test_many_stay_open_and_each_is_counted_by_itself(services: Services) -> None:
    held = await traffic.open_many(services.network, HOST, 150)
    for _, writer in held[:2]:
        writer.write(bytes(REQUEST_BYTES))
    await until(lambda: sorted(services.arrived.values())[-2:] == [REQUEST_BYTES, REQUEST_BYTES])
    assert len(services.arrived) == 150
    for _, writer in held:
        writer.close()
        await writer.wait_closed()


async def test_connection_is_filled_until_it_is_told_to_stop(services: Services) -> None:
    _, writer = await services.network.open_connection(HOST, SINK)
    filling = asyncio.create_task(traffic.fill(writer))
    await until(lambda: any(count > WRITE_BYTES for count in services.arrived.values()))
    filling.cancel()
    writer.transport.abort()


async def test_verb_is_done_with_its_arguments() -> None:
    async def double(number: int) -> dict[str, int]:
        return {"result": 2 * number}

    assert await answer({"double": double}, {"verb": "double", "number": 21}) == {"result": 42}


async def test_verb_that_fails_tells_why() -> None:
    async def fail() -> dict[str, int]:
        raise ConnectionRefusedError("nobody there")

    assert await answer({"fail": fail}, {"verb": "fail"}) == {"error": "ConnectionRefusedError: nobody there"}
    assert "KeyError" in (await answer({}, {"verb": "fail"}))["error"]
