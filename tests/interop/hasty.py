"""The `weft` command with a REKEY_AFTER_TIME of 5 s, so that a test need not wait for 120 s.

The other timers are as they are: no two handshakes of a peer begin within 5 s (REKEY_TIMEOUT) in any case.
"""

from __future__ import annotations

import sys

REKEY_AFTER_TIME_S = 5

if __name__ == "__main__":
    from weft.noise import timers

    # What imports the constant does so later.
    timers.REKEY_AFTER_TIME_NS = REKEY_AFTER_TIME_S * timers.SECOND_NS  # type: ignore[misc]

    from weft.cli import main

    sys.exit(main())
