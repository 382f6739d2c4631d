import pytest
from bench.iperf import delivered_gbit, delivered_gbit_per_s, round_trips_ms
from bench.namespaces import BenchError

ONE_WAY = {"sum_received": {"bits_per_second": 2e9, "bytes": 500_000_000}}
BOTH_WAYS = {**ONE_WAY, "sum_received_bidir_reverse": {"bits_per_second": 1e9, "bytes": 250_000_000}}


def test_report_of_one_direction_gives_what_arrived() -> None:
    assert (delivered_gbit_per_s(ONE_WAY), delivered_gbit(ONE_WAY)) == (2.0, 4.0)


def test_report_of_both_directions_gives_their_sum() -> None:
    assert (delivered_gbit_per_s(BOTH_WAYS), delivered_gbit(BOTH_WAYS)) == (3.0, 6.0)


def test_output_of_ping_gives_each_round_trip() -> None:
    output = (
        "PING 10.99.0.2 (10.99.0.2) 56(84) bytes of data.\n"
        "64 bytes from 10.99.0.2: icmp_seq=1 ttl=64 time=0.145 ms\n"
        "64 bytes from 10.99.0.2: icmp_seq=2 ttl=64 time=12.7 ms\n"
        "rtt min/avg/max/mdev = 0.145/6.4/12.7/6.2 ms\n"
    )
    assert round_trips_ms(output) == [0.145, 12.7]


def test_output_of_ping_without_an_answer_raises() -> None:
    with pytest.raises(BenchError, match="no answer"):
        round_trips_ms("3 packets transmitted, 0 received, 100% packet loss\n")
