import asyncio

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def load_no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


FAILING = """
from weft.testing.network import Network

def test_it(network, virtual_clock):
    assert network.clock is virtual_clock
    network.host("alice", "192.0.2.1").bind(1).send(b"hello", ("192.0.2.9", 2))
    assert {outcome}
"""


def run(pytester: pytest.Pytester, outcome: str) -> pytest.RunResult:
    pytester.makeconftest('pytest_plugins = ["weft.testing.fixtures"]')
    pytester.makepyfile(FAILING.format(outcome=outcome))
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA")


def test_failing_test_with_a_network_shows_what_travelled(pytester: pytest.Pytester) -> None:
    result = run(pytester, "False")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*datagrams of network*", "*alice 192.0.2.1:1 > 192.0.2.9:2*unreachable"])


def test_passing_test_with_a_network_shows_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "True")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*datagrams of network*")


HOUR = """
import asyncio
from weft.testing import S, VirtualLoop

async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def test_hour(simulated_network, tmp_path):
    alice, bob = map(simulated_network.node, ("alice", "bob"))
    await bob.start_server(echo, port=80)
    start = simulated_network.clock.now
    while simulated_network.clock.now - start < 3600 * S:
        reader, writer = await alice.open_connection("bob.weft", 80)
        writer.write(b"hello\\n")
        assert await reader.readline() == b"hello\\n"
        writer.close()
        await asyncio.sleep(60)
    assert tmp_path.exists()

class TestInAClass:
    async def test_method(self, simulated_network):
        await test_hour(simulated_network, __import__("pathlib").Path("."))

async def test_that_fails(simulated_network):
    alice, bob = map(simulated_network.node, ("alice", "bob"))
    await alice.open_connection("bob", 80)

async def test_that_waits_for_ever(simulated_network):
    alice, bob = map(simulated_network.node, ("alice", "bob"))
    await bob.start_server(lambda reader, writer: None, port=80)
    reader, writer = await alice.open_connection("bob", 80)
    await reader.read()
"""

BESIDE = """
import asyncio
import pytest
import pytest_asyncio
from weft.testing import VirtualLoop

@pytest_asyncio.fixture
async def alice(simulated_network):
    yield simulated_network.node("alice")
    await asyncio.sleep(3600)

async def test_with_a_fixture_that_is_a_coroutine(alice):
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    await asyncio.sleep(3600)
    with pytest.raises(ConnectionRefusedError):
        await alice.open_connection("alice", 80)

async def test_of_something_else():
    assert type(asyncio.get_running_loop()).__name__ == {loop!r}

@pytest.mark.parametrize("network_seed", [3, 4])
def test_seed(network, simulated_network, network_seed):
    assert network._seed == simulated_network._seed == network_seed
"""

FACTORIES = """
import asyncio

class OwnLoop(asyncio.SelectorEventLoop):
    pass

def pytest_asyncio_loop_factories():
    return {"own": OwnLoop}
"""


def run_test(pytester: pytest.Pytester, text: str, options: str) -> pytest.RunResult:
    pytester.makepyfile('pytest_plugins = ["weft.testing.fixtures"]\n' + text)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA", *options.split())


ASYNCIO = "-p pytest_asyncio.plugin -o asyncio_default_fixture_loop_scope=function"


@pytest.mark.parametrize("options", ["", f"{ASYNCIO} --asyncio-mode auto", f"{ASYNCIO} --asyncio-mode strict"])
def test_coroutine_with_a_simulated_network_runs_in_virtual_time(pytester: pytest.Pytester, options: str) -> None:
    result = run_test(pytester, HOUR, options)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*ConnectionRefusedError*",
            "*datagrams of simulated_network*",
            "*alice > bob  84 bytes  delivered after 10.000 ms * > 80: tcp [[]S[]], length 0",
            "*Stuck: nothing is left to happen, and these wait:",
            "*Task-*: *in test_that_waits_for_ever > reader.py:*",
        ]
    )


@pytest.mark.parametrize("conftest", ["", FACTORIES])
def test_fixtures_and_other_tests_of_pytest_asyncio_are_as_they_were(pytester: pytest.Pytester, conftest: str) -> None:
    pytester.makeconftest(conftest)
    with asyncio.Runner() as runner:
        usual = type(runner.get_loop()).__name__
    text = BESIDE.format(loop="OwnLoop" if conftest else usual)
    run_test(pytester, text, f"{ASYNCIO} -W error --asyncio-mode auto").assert_outcomes(passed=4)
