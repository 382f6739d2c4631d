"""The times and limits of WireGuard, each in its own spelling of the paper, in nanoseconds or messages.

| constant                 | value             | what happens then                                                 |
|--------------------------|-------------------|-------------------------------------------------------------------|
| REKEY_AFTER_MESSAGES     | 2^60              | the next sending asks for a new handshake                         |
| REJECT_AFTER_MESSAGES    | 2^64 - 2^13 - 1   | the keypair seals and opens nothing more                          |
| REKEY_AFTER_TIME         | 120 s             | the next sending by the initiator asks for a new handshake        |
| REJECT_AFTER_TIME        | 180 s             | the keypair seals and opens nothing more, and is forgotten        |
| LAST_MINUTE_TIME         | 165 s             | the next receipt by the initiator asks for a new handshake        |
| REKEY_TIMEOUT            | 5 s + 0 to 333 ms | an initiation without a response is followed by a fresh one       |
| REKEY_ATTEMPT_TIME       | 90 s              | a handshake without success is given up                           |
| KEEPALIVE_TIMEOUT        | 10 s              | data came and nothing went: a keepalive                           |
| NEW_HANDSHAKE_TIME       | 15 s              | data went and nothing came: a new handshake                       |
| INITIATION_INTERVAL      | 20 ms             | initiations of one peer that follow sooner are dropped            |
| COOKIE_LIFETIME          | 120 s             | the cookie is used no more, and its secret replaced               |

The paper's last time, 540 s after the last handshake for zeroing all keys, has no constant: every keypair is forgotten
at REJECT_AFTER_TIME, when it can't be used any more, and the ephemeral key of a handshake when that is given up.

Source: the WireGuard paper, sections 5.3, 5.4.7 and 6; wire.md section 3.
"""

from __future__ import annotations

from typing import Final

MILLISECOND_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000

NEVER: Final = (1 << 63) - 1
"""A deadline that is not set; later than all others."""

REKEY_AFTER_MESSAGES: Final = 1 << 60
REJECT_AFTER_MESSAGES: Final = (1 << 64) - (1 << 13) - 1

REKEY_AFTER_TIME_NS: Final = 120 * SECOND_NS
REJECT_AFTER_TIME_NS: Final = 180 * SECOND_NS
REKEY_TIMEOUT_NS: Final = 5 * SECOND_NS
REKEY_TIMEOUT_JITTER_NS: Final = 333 * MILLISECOND_NS
REKEY_ATTEMPT_TIME_NS: Final = 90 * SECOND_NS
KEEPALIVE_TIMEOUT_NS: Final = 10 * SECOND_NS
NEW_HANDSHAKE_TIME_NS: Final = KEEPALIVE_TIMEOUT_NS + REKEY_TIMEOUT_NS
LAST_MINUTE_TIME_NS: Final = REJECT_AFTER_TIME_NS - KEEPALIVE_TIMEOUT_NS - REKEY_TIMEOUT_NS
INITIATION_INTERVAL_NS: Final = 20 * MILLISECOND_NS
COOKIE_LIFETIME_NS: Final = 120 * SECOND_NS
