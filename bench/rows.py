"""How the figures of a run are called and written, in the order of the table; others are in the JSON only."""

from __future__ import annotations

from typing import NamedTuple

LOSSES = (10_000, 1_000, 200, 100, 20)
FLOODS = {
    "initiations": "initiations",
    "pieces": "forged pieces",
    "pieces_from_peer": "pieces forged as the peer's",
}


class Row(NamedTuple):
    """One row of the table: what it is, and how many decimals its figures have."""

    title: str
    decimals: int


ROWS: dict[str, Row] = {
    "tcp1": Row("TCP, 1 stream a to b, Gbit/s", 2),
    "tcp1_reverse": Row("TCP, 1 stream b to a, Gbit/s", 2),
    "tcp_both": Row("TCP, both ways at once, sum, Gbit/s", 2),
    "tcp10": Row("TCP, 10 streams, Gbit/s", 2),
    "udp1200": Row("UDP of 1200 bytes that arrives, Gbit/s", 3),
    "udp64": Row("UDP of 64 bytes that arrives, Gbit/s", 3),
    "ping_p50": Row("ping at idle, p50, ms", 3),
    "ping_p99": Row("ping at idle, p99, ms", 3),
    "load_p50": Row("ping under TCP load, p50, ms", 3),
    "load_p99": Row("ping under TCP load, p99, ms", 3),
    "wire": Row("bytes on the wire per TCP byte", 4),
    "tcp1_cpu": Row("CPU seconds of both ends per Gbit, 1 stream", 3),
    "tcp1_rss": Row("RSS of the larger end, MB, after 1 stream", 1),
    "tcp1_pss": Row("PSS of the larger end, MB, after 1 stream", 1),
    **{f"loss_{rate}": Row(f"TCP, 1 datagram in {rate:,} lost, Gbit/s", 3) for rate in LOSSES},
    **{
        f"flood_{kind}{suffix}": Row(f"{title}: {what}", decimals)
        for kind, title in FLOODS.items()
        for suffix, what, decimals in (
            ("", "TCP beside, Gbit/s", 2),
            ("_closed", "to a closed port, Gbit/s", 2),
            ("_let_in", "new peers that get in, share", 2),
        )
    },
    "burden": Row("TCP, 1 stream, beside 1,000 peers, rules and a scraper, Gbit/s", 2),
    "handshakes": Row("handshakes a second, both sides in one process", 0),
    "daily_start": Row("start with 1,000 peers and rules until it answers, s", 2),
    "daily_command": Row("`weft info`, s", 3),
    "api_rate": Row("API requests a second, 8 clients on the Unix socket", 0),
    "api_p99": Row("API, p99 of a request, ms", 2),
    "idle_cpu": Row("idle with 100 peers, % of a core", 2),
    "idle_rss": Row("idle with 100 peers, RSS, MB", 1),
    "idle_pss": Row("idle with 100 peers, PSS, MB", 1),
}
