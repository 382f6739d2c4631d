"""Keeps the memory of a process, and the keys in it, to itself.

No core file is written, whatever the limits say, and no other process of the same user may look inside: neither by
ptrace nor through `/proc/PID/mem`, `environ`, `fd` and the like, which belong to root then. The price: `gdb`, `strace`
and `py-spy` need root (CAP_SYS_PTRACE), and so does whoever wants to list the descriptors of the process.

Source: prctl(2), PR_SET_DUMPABLE; setrlimit(2), RLIMIT_CORE; core(5).
Not done here: swap, which is to be encrypted or off where that matters.
"""

from __future__ import annotations

import sys
from contextlib import suppress

_PR_SET_DUMPABLE = 4


def close_memory() -> None:
    """Do all of that, as far as the system can."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        # Core files that go to a program, as those of systemd-coredump do, heed this and not the limit.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
