"""Fixtures for tests against the real kernel, and the output of their processes in the report of a failure."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.system.lab import Lab, TwoHosts
from tests.system.node import Pair, Trio, connected_trio


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            lab = value.lab if isinstance(value, Pair | Trio) else value
            if isinstance(lab, Lab):
                report.sections += lab.outputs()
    return report
