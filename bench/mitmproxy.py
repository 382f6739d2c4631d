"""mitmproxy-rs, the other rootless WireGuard host for asyncio, installed for the benchmark alone."""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path

from bench.build import OUT
from bench.namespaces import run

# The last for Python 3.11. Its one dependency on Linux has no wheel for 3.11; generators/mitmproxy_end.py does without.
VERSION = "0.11.5"
INSTALL_S = 120


@functools.cache
def installed() -> Path:
    """The directory that Python finds it in, for PYTHONPATH.

    Raises:
        BenchError: it is not to be had.
    """
    directory = OUT / f"mitmproxy-rs-{VERSION}"
    if not directory.exists():
        # Moved into place when it is whole.
        fresh = directory.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--only-binary", ":all:", "--target", str(fresh), f"mitmproxy-rs=={VERSION}", timeout_s=INSTALL_S,
        )  # fmt: skip
        fresh.rename(directory)
    return directory
