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
    "stack_tcp1": Row("rootless nodes: TCP, 1 stream a to b, Gbit/s", 2),
    "stack_tcp1_reverse": Row("rootless nodes: TCP, 1 stream b to a, Gbit/s", 2),
    "stack_tcp10": Row("rootless nodes: TCP, 10 streams, Gbit/s", 2),
    "stack_stock": Row("rootless hosts: TCP, 1 stream from wireguard-go, Gbit/s", 2),
    "stack_fast": Row("rootless hosts: TCP, 1 stream from a faster WireGuard, Gbit/s", 2),
    "stack_connections": Row("connections opened and closed a second, 16 at a time", 0),
    "stack_trip_p50": Row("round trip of 64 bytes on an open connection, p50, ms", 3),
    "stack_trip_p99": Row("round trip of 64 bytes on an open connection, p99, ms", 3),
    "stack_idle": Row("10,000 idle connections, RSS of each, larger end, KB", 2),
    "stack_idle_here_without": Row("RSS of the end that connects, without them, MB", 1),
    "stack_idle_here_with": Row("RSS of the end that connects, with them, MB", 1),
    "stack_idle_there_without": Row("RSS of the end that listens, without them, MB", 1),
    "stack_idle_there_with": Row("RSS of the end that listens, with them, MB", 1),
    "stack_fair": Row("1,000 senders: standard deviation, of the mean", 3),
    "stack_fair_least": Row("1,000 senders: the least of them, of the mean", 3),
    "stack_fair_most": Row("1,000 senders: the most of them, of the mean", 3),
    "stack_fair_sum": Row("1,000 senders: sum, Gbit/s", 2),
    "stack_nodes_first": Row("process with one node, RSS, MB", 1),
    "stack_nodes": Row("each further node in the process, RSS, MB", 1),
    "clients_http_requests": Row("HTTP: requests a second, kept alive, 16 at a time", 0),
    "clients_http_one": Row("HTTP: requests a second, kept alive, one at a time", 0),
    "clients_http_download": Row("HTTP: download of 64 MB, Gbit/s", 2),
    "clients_http_stream": Row("raw stream the same way, Gbit/s", 2),
    "clients_sftp_get": Row("SFTP: 64 MB from the server, MB/s", 0),
    "clients_sftp_put": Row("SFTP: 64 MB to the server, MB/s", 0),
    "clients_netd_trip_p50": Row("round trip of 64 bytes from C by a Unix socket, p50, us", 0),
    "clients_netd_trip_p99": Row("round trip of 64 bytes from C by a Unix socket, p99, us", 0),
    "clients_netd_near_p50": Row("the same with both programs on one CPU, p50, us", 0),
    "clients_netd_near_p99": Row("the same with both programs on one CPU, p99, us", 0),
    "clients_netd_tunnel_p50": Row("round trip from C by netd to an echo behind a tunnel, p50, us", 0),
    "clients_netd_tunnel_p99": Row("round trip from C by netd to an echo behind a tunnel, p99, us", 0),
    "clients_netd_bulk": Row("stream through a tunnel, from C by netd or from Python, Gbit/s", 2),
    "clients_socks": Row("stream of a program by the SOCKS5 proxy, Gbit/s", 2),
    "clients_socks_stream": Row("raw stream between the same nodes, Gbit/s", 2),
    "handshakes": Row("handshakes a second, both sides in one process", 0),
    "daily_start": Row("start with 1,000 peers and rules until it answers, s", 2),
    "daily_command": Row("`weft info`, s", 3),
    "api_rate": Row("API requests a second, 8 clients on the Unix socket", 0),
    "api_p99": Row("API, p99 of a request, ms", 2),
    "idle_cpu": Row("idle with 100 peers, % of a core", 2),
    "idle_rss": Row("idle with 100 peers, RSS, MB", 1),
    "idle_pss": Row("idle with 100 peers, PSS, MB", 1),
}
