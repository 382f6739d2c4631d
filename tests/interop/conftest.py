"""What the tests against other implementations share with those of the system: the lab, and its output on a failure."""

from tests.system.conftest import lab, pytest_runtest_makereport

__all__ = ["lab", "pytest_runtest_makereport"]
