import subprocess
import sys

import pytest

from weft.errors import UsageError
from weft.testing.clock import MS
from weft.testing.faults import Faults, parse_faults


def test_words_set_each_its_field() -> None:
    times, shares = (
        ["latency=10ms", "jitter=1.5ms", "held_back=500us"],
        ["loss=1%", "reordering=0.02", "duplication=3%"],
    )
    assert parse_faults([*times, *shares, "mtu=1400", "queue=64k", "rate=1.5G"]) == Faults(
        latency_ns=10 * MS,
        jitter_ns=3 * MS // 2,
        held_back_ns=MS // 2,
        loss=0.01,
        reordering=0.02,
        duplication=0.03,
        mtu_bytes=1_400,
        queue_bytes=64_000,
        rate_bps=1_500_000_000,
    )


def test_words_leave_the_rest_as_it_was() -> None:
    base = Faults(latency_ns=MS, loss=0.5, rate_bps=1_000)
    assert parse_faults(["rate=none"], base) == Faults(latency_ns=MS, loss=0.5)
    assert parse_faults([], base) == base


@pytest.mark.parametrize(
    "word", ["delay=1ms", "loss", "loss=", "loss=lots", "loss=200%", "latency=10", "latency=1m", "mtu=-1", "rate=1/0"]
)
def test_word_that_is_none_refuses(word: str) -> None:
    with pytest.raises(UsageError):
        parse_faults([word])


def test_link_that_cannot_be_made_says_why_in_one_line() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "weft.testing.link", "fd:0", "fd:0"], input=b"", capture_output=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.startswith(b"descriptor 0 is no TAP or TUN device")
    assert run.stderr.count(b"\n") == 1
