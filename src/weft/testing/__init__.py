"""For the tests of weft and of its users: virtual clock, simulated network, faulty links.

`fixtures` (pytest), `link` and `device` (Linux) are imported by themselves.
"""

from weft.testing.clock import MS, S, VirtualClock
from weft.testing.driver import Driver, Machine, Stuck
from weft.testing.faults import FaultInjector, Faults, parse_faults
from weft.testing.network import Datagram, Endpoint, Host, Network, Socket, Translator
from weft.testing.pair import Pair
from weft.testing.trace import Fate, Trace

__all__ = [
    "MS",
    "Datagram",
    "Driver",
    "Endpoint",
    "Fate",
    "FaultInjector",
    "Faults",
    "Host",
    "Machine",
    "Network",
    "Pair",
    "S",
    "Socket",
    "Stuck",
    "Trace",
    "Translator",
    "VirtualClock",
    "parse_faults",
]
