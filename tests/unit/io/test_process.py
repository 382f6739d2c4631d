"""What a process may use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from weft.io.process import descriptors

PROGRAM = """
import resource
from weft.io.process import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
allow_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_process_takes_as_many_descriptors_as_it_may() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "(512, 512)\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_descriptors_are_counted() -> None:
    before = descriptors()
    assert before is not None
    with open("/dev/null"):
        assert descriptors() == before + 1
