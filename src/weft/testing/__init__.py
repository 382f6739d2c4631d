"""For the tests of weft and of its users: virtual time, simulated networks, faulty links.

`fixtures` (pytest), `link` and `device` (Linux) are imported by themselves.
"""

from typing import TYPE_CHECKING

from weft.testing.clock import MS, S, VirtualClock
from weft.testing.driver import Driver, Machine, Stuck
from weft.testing.faults import FaultInjector, Faults, parse_faults
from weft.testing.loop import VirtualLoop, run
from weft.testing.network import Datagram, Endpoint, Host, Network, Socket, Translator
from weft.testing.pair import Pair
from weft.testing.trace import Fate, Trace

if TYPE_CHECKING:
    from weft.testing.simulated import SimulatedNetwork
    from weft.testing.simulated_node import SimulatedNode

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
    "SimulatedNetwork",
    "SimulatedNode",
    "Socket",
    "Stuck",
    "Trace",
    "Translator",
    "VirtualClock",
    "VirtualLoop",
    "parse_faults",
    "run",
]


def __getattr__(name: str) -> object:
    # The stack and its transports are not needed by those who test machines.
    if name in {"SimulatedNetwork", "SimulatedNode"}:
        from weft.testing.simulated import SimulatedNetwork
        from weft.testing.simulated_node import SimulatedNode

        return {"SimulatedNetwork": SimulatedNetwork, "SimulatedNode": SimulatedNode}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
