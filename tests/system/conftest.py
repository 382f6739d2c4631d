"""Fixtures for tests against the real kernel, and the output of their processes in the report of a failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.system.lab import Lab, TwoHosts
from tests.system.node import Pair, Trio, connected_trio

LONG = (
    *("test_examples", "test_demo", "test_transcripts", "test_stack_kernel", "test_openssh", "test_serve", "test_ssh"),
    *("test_proxy", "test_http", "test_world", "test_rekey", "test_disruptions", "test_endurance", "test_fallbacks"),
    *("test_given", "test_parcel"),
)
"""Files that take long, of these tests and of those against other implementations, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files, so that workers which share the files end together."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def two_hosts(lab: Lab) -> TwoHosts:
    alice, bob = lab.host("alice"), lab.host("bob")
    return TwoHosts(alice, bob, lab.veth(alice, bob))


@pytest.fixture(scope="session")
def trio() -> Iterator[Trio]:
    """Of the whole run: its nodes are older than the minute in which a firewall adopts open connections."""
    with connected_trio() as trio:
        yield trio


@pytest.fixture(scope="session", autouse=True)
def start_trio(request: pytest.FixtureRequest) -> None:
    """Let it grow old while other tests run."""
    if any("trio" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("trio")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            lab = value.lab if isinstance(value, Pair | Trio) else value
            if isinstance(lab, Lab):
                report.sections += lab.outputs()
    return report
