from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from weft.stack.routes import Routes


def networks_of(kind: type, longest: int) -> st.SearchStrategy[IPv4Network | IPv6Network]:
    lengths = st.integers(longest - 12, longest)
    return st.builds(lambda value, length: kind((value, length), strict=False), st.integers(0, 255), lengths)


networks = networks_of(IPv4Network, 32) | networks_of(IPv6Network, 128)
steps = st.lists(st.tuples(st.booleans(), networks), max_size=30)


@given(steps, st.integers(0, 255), st.booleans())
def test_longest_prefix_of_those_that_are_there_wins(
    changes: list[tuple[bool, IPv4Network | IPv6Network]], value: int, is_ipv6: bool
) -> None:
    routes = Routes(lambda: None)
    model: dict[IPv4Network | IPv6Network, bytes] = {}
    for number, (adds, network) in enumerate(changes):
        if adds:
            routes.add(network, bytes([number]))
            model[network] = bytes([number])
        else:
            routes.remove(network)
            model.pop(network, None)
    destination = ip_address(value.to_bytes(16 if is_ipv6 else 4, "big"))
    around = [network for network in model if network.version == destination.version and destination in network]
    expected = max(around, key=lambda network: network.prefixlen, default=None)
    found = routes.lookup(destination.packed)
    assert (found and (found.network, found.source)) == (expected and (expected, model[expected]))
    assert {route.network for route in routes} == set(model)


def test_change_is_told() -> None:
    told: list[int] = []
    routes = Routes(lambda: told.append(1))
    routes.add(ip_network("fc00::/8"))
    routes.remove(ip_network("fc00::/8"))
    routes.remove(ip_network("fc00::/8"))
    assert len(told) == 2
