"""What the engine tells about itself: the values that the HTTP API serves and the command prints.

They are the contract with whoever reads `--json`; `schema` grows when a field changes its meaning or goes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

SCHEMA = 1


DeviceKind = Literal["tun", "stack"]


class Info(Struct, frozen=True, kw_only=True):
    """Who this node is and where it can be reached."""

    schema: int = SCHEMA
    id: str
    """Peer id, `12D3KooW…`."""
    address: str
    """Address in fc00::/8, in the spelling of RFC 5952."""
    wireguard_public_key: str
    """X25519 public key, base64, as `wg` prints it."""
    multiaddrs: list[str]
    """What another machine can dial: real addresses and ports, each with /p2p."""
    version: str
    dir: str
    """Of key and state; empty for a node that keeps nothing."""
    pid: int


class Listener(Struct, frozen=True, kw_only=True):
    """One bound socket of the underlay."""

    multiaddr: str
    offloads: list[str]
    """What the kernel gave: any of `gso`, `gro`."""


class Interface(Struct, frozen=True, kw_only=True):
    """The fc00::/8 interface."""

    schema: int = SCHEMA
    up: bool
    device: DeviceKind | None = None
    """`tun`: one of the system, for all its programs; `stack`: a TCP/IP host inside the node, for programs that use
    `weft.Node`; null while it is down."""
    ifname: str | None = None
    """Of the TUN."""
    address: str | None = None
    """This node's own, in fc00::/8."""
    addresses: list[str] = []
    """Those that `fc00.addresses` in weft.toml adds, each with its prefix length."""
    dns: list[str] = []
    """Servers in the network that programs ask for names, as `fc00.dns` in weft.toml says."""
    mtu: int | None = None
    offloads: list[str] = []
    """What the device takes: any of `vnet_hdr`, `csum`, `tso4`, `tso6`, `uso`."""


class Ports(Struct, frozen=True, kw_only=True):
    """What the firewall lets in."""

    schema: int = SCHEMA
    allow: list[str]
    """Rules such as `/tcp/80`, `/udp/0` (all ports), `/icmp`, `/tcp/22/from/KEY` (one peer), in their order."""
    listening: list[str] | None = None
    """With the stack: what programs listen on, such as `/tcp/80`, or `/tcp/80/at/10.7.0.1` where that is one address of
    several. There, that and not the rules is what others reach; null otherwise."""
    peers: dict[str, str] = {}
    """What the peers are called whose keys are in the rules, by key."""
    refuse: Literal["reject", "drop"]


class PeerStatus(Struct, frozen=True, kw_only=True):
    """One peer, as `weft status` shows it."""

    id: str | None
    """Peer id; None for a stock WireGuard peer, and for a weft peer that has not said it yet."""
    name: str | None
    kind: Literal["weft", "wireguard"]
    addresses: list[str]
    """All that it may use as its source: the own address of a weft node first, then prefixes."""
    wireguard_public_key: str
    standing: Literal["wanted", "known", "stranger", "blocked"] = "wanted"
    """`wanted`: called at each start and whenever it is missed; `known`: it may call; `stranger`: it called by itself;
    `blocked`: neither called nor answered."""
    state: Literal["up", "connecting", "idle", "blocked"]
    """`up`: a session is there; `connecting`: a handshake is under way; `idle`: neither."""
    endpoint: str | None
    """`192.0.2.1:1312` or `[2001:db8::1]:1312`; `host.example.org:1312` if that name leads there; None when unknown."""
    path: str
    """How packets go there: `direct` or `none`."""
    mode: Literal["burst", "packet"]
    """Whether whole bursts are sealed for it, or single WireGuard packets."""
    burst_pieces: int
    """Datagrams that a burst to it may have."""
    path_mtu: int
    """Largest IP packet of the underlay on the way to it, bytes."""
    loss: float
    """Smoothed loss of datagrams to it, 0 to 1."""
    rtt_ms: float | None
    keepalive_s: int = 0
    """How often something is sent at least; 0 is never."""
    has_preshared_key: bool = False
    """Of its own; that of a network with a shared secret does not count."""
    handshake_age_s: float | None
    tx_bytes: int
    """Sent over the underlay, datagram payloads."""
    rx_bytes: int


class PeerList(Struct, frozen=True, kw_only=True):
    """All peers."""

    schema: int = SCHEMA
    peers: list[PeerStatus]


class TaskStatus(Struct, frozen=True, kw_only=True):
    """One task of the stage."""

    name: str
    state: Literal["running", "waiting", "stopped"]
    restarts: int


class Status(Struct, frozen=True, kw_only=True):
    """Everything at one glance."""

    schema: int = SCHEMA
    info: Info
    listeners: list[Listener]
    interface: Interface
    peers: list[PeerStatus]
    tasks: list[TaskStatus]
    session_restarts: int
    drops: dict[str, int]
    """What was dropped since the start, counted by reason."""


class Pong(Struct, frozen=True, kw_only=True):
    """The answer to one ping."""

    schema: int = SCHEMA
    peer: str
    """Peer id, name or address, as it was asked for."""
    address: str
    path: str
    """`direct`."""
    endpoint: str
    rtt_ms: float
    size: int
    """Bytes of the probe inside the tunnel."""


EventKind = Literal[
    "peer-added",
    "peer-up",
    "peer-down",
    "peer-moved",
    "peer-changed",
    "peer-removed",
    "listeners-changed",
    "interface-up",
    "interface-down",
    "rules-changed",
    "config-changed",
    "addresses-changed",
    "resumed",
    "task-died",
    "session-rebuilt",
    "log",
    "missed",
]


class Event(Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    schema: int = SCHEMA
    at: float
    """Seconds since 1970."""
    kind: EventKind
    peer: str | None = None
    """Peer id, or WireGuard key of a peer that has none."""
    text: str = ""
    """One line for a person."""
    level: str | None = None
    """Of a log record."""


LogLevel = Literal["debug", "info", "warning", "error"]

LOG_LINES = 1000
"""How many lines of its log a node keeps in memory."""


class LogLine(Struct, frozen=True, kw_only=True):
    """One thing that the daemon logged."""

    schema: int = SCHEMA
    number: int
    """Counts the lines since the node's start, from 1; 0 for a line that was read from a file."""
    at: float | None
    """Seconds since 1970; None where a file does not say."""
    level: LogLevel
    logger: str
    text: str


class LogList(Struct, frozen=True, kw_only=True):
    """Lines of the log, the oldest first."""

    schema: int = SCHEMA
    lines: list[LogLine]
