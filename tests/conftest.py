"""What every test of this project lives under: hypothesis profiles, what may be skipped, what runs long."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

# Tests start hundreds of Pythons: without bytecode each compiles what it imports of weft, a daemon for 0.2 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["weft.testing.fixtures"]

EXAMPLES = 100
# The default profile draws the same examples each time: a red run is red for everybody. The long one explores.
settings.register_profile("default", max_examples=EXAMPLES, derandomize=True, deadline=None)
settings.register_profile("long", max_examples=10 * EXAMPLES, deadline=None, print_blob=True)

RUNS_LONG = os.environ.get("WEFT_LONG") == "1"
IS_CI = os.environ.get("CI") == "true"
SYSTEM_PROGRAMS = ("ip", "nft", "ethtool", "ping")

settings.load_profile("long" if RUNS_LONG else "default")


def pytest_configure() -> None:
    # A shell lets what it runs in the background ignore SIGINT, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is collected out of the garbage collector's sight: thousands of tests that live until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `long` unless WEFT_LONG=1."""
    if RUNS_LONG:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what can't run here: `system` needs root and programs, `interop("wg")` the programs that it names."""
    reason = missing_for(item)
    if reason:
        pytest.skip(reason)


def missing_for(item: pytest.Item) -> str:
    """Say what this machine lacks for a test, or "" if it lacks nothing."""
    programs = [program for name in ("system", "interop") for mark in item.iter_markers(name) for program in mark.args]
    if item.get_closest_marker("system"):
        if not sys.platform.startswith("linux"):
            return "needs Linux: network namespaces"
        if os.geteuid() != 0:
            return "needs root: it makes network namespaces"
        if not os.path.exists("/dev/net/tun"):
            return "needs /dev/net/tun"
        programs += SYSTEM_PROGRAMS
    missing = sorted({program for program in programs if shutil.which(program) is None})
    return f"needs {', '.join(missing)} in the PATH" if missing else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI=true, a test that was skipped has failed: nobody would notice otherwise."""
    report = yield
    if IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason_of(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    if IS_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason_of(report)}"
    return report


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason that a skip was given."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
