"""With this directory in PYTHONPATH, REKEY_AFTER_TIME is 5 s, so that a test need not wait for 120 s.

The other timers are as they are: no two handshakes of a peer begin within 5 s (REKEY_TIMEOUT) in any case.
"""

from weft.noise import timers

REKEY_AFTER_TIME_S = 5

# Before anything has imported the constant.
timers.REKEY_AFTER_TIME_NS = REKEY_AFTER_TIME_S * timers.SECOND_NS  # type: ignore[misc]
