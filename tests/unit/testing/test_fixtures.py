import pytest

pytest_plugins = ["pytester"]

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
