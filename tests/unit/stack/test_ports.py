from __future__ import annotations

from random import Random

import pytest

from weft.stack.failure import Failure, StackError
from weft.stack.ports import COUNT, FIRST, pick_port


def test_every_port_is_found_until_none_is_left() -> None:
    taken: set[int] = set(range(FIRST, FIRST + COUNT)) - {FIRST, FIRST + 7, FIRST + COUNT - 1}
    random_bytes = Random(1).randbytes
    for _ in range(3):
        taken.add(pick_port(lambda port: port not in taken, random_bytes))
    assert len(taken) == COUNT
    with pytest.raises(StackError) as refused:
        pick_port(lambda port: port not in taken, random_bytes)
    assert refused.value.failure is Failure.NO_PORTS


def test_ports_are_spread_by_chance_over_the_upper_half() -> None:
    random_bytes = Random(1).randbytes
    picked = [pick_port(lambda _: True, random_bytes) for _ in range(4000)]
    assert min(picked) >= FIRST
    assert max(picked) < FIRST + COUNT
    assert len(set(picked)) > 3500
    counts = [sum(port >> 12 == block for port in picked) for block in range(8, 16)]
    assert min(counts) > 400
