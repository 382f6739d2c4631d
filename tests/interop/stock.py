"""A stock WireGuard device: Debian's wireguard-go in a host, set up by the real `wg`."""

from __future__ import annotations

import itertools
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.system.lab import Host
from tests.system.process import Process

PORT = 51820
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Shown:
    """What `wg show` says about its one peer."""

    endpoint: str
    handshake_at: int
    """Seconds since 1970; 0 is never."""
    rx_bytes: int
    tx_bytes: int


class StockDevice:
    """One wireguard-go with one peer.

    Its control socket is named by the interface, in a directory that all namespaces share: so no two have one name.
    """

    def __init__(self, host: Host, addresses: tuple[str, ...], directory: Path) -> None:
        self.host = host
        self.addresses = addresses
        self.ifname = f"wg{os.getpid()}x{next(NUMBERS)}"
        self._directory = directory
        private = host.run("wg", "genkey")
        self._key_file = self._secret("private", private)
        self.public_key = host.run("sh", "-c", f"wg pubkey < {self._key_file}").strip()
        self._peer: list[str] = []
        self._routes: tuple[str, ...] = ()
        self.port = PORT
        self.process: Process

    def _secret(self, name: str, content: str) -> Path:
        path = self._directory / f"{self.ifname}.{name}"
        path.touch(mode=0o600)
        path.write_text(content)
        return path

    def start(self) -> None:
        """Run it with key, port, addresses, and the peer that it had."""
        self.process = self.host.start("wireguard-go", "-f", self.ifname, env={"LOG_LEVEL": "verbose"})
        self.process.wait_for("UAPI listener started")
        self.wg_set("private-key", str(self._key_file), "listen-port", str(self.port))
        for address in self.addresses:
            self.host.ip("addr", "add", address, "dev", self.ifname, *(["nodad"] if ":" in address else []))
        self.host.ip("link", "set", self.ifname, "up")
        if self._peer:
            self.set_peer(*self._peer)
            self.route(*self._routes)

    def wg_set(self, *words: str) -> None:
        """Run `wg set` on the device."""
        self.host.run("wg", "set", self.ifname, *words)

    def set_peer(self, public_key: str, *words: str) -> None:
        """Set its peer in the words of `wg set`."""
        self._peer = [public_key, *words]
        self.wg_set("peer", *self._peer)

    def set_preshared_key(self, preshared_key: str) -> None:
        """Give its peer a preshared key, base64."""
        self.wg_set("peer", self._peer[0], "preshared-key", str(self._secret("psk", preshared_key)))

    def route(self, *prefixes: str) -> None:
        """Send these through the device."""
        self._routes = prefixes
        for prefix in prefixes:
            self.host.ip("route", "replace", prefix, "dev", self.ifname)

    def move_port(self, port: int) -> None:
        """Listen elsewhere."""
        self.port = port
        self.wg_set("listen-port", str(port))

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.stop(signal.SIGKILL)

    def shown(self) -> Shown:
        """What `wg show` says about its peer."""
        line = self.host.run("wg", "show", self.ifname, "dump").splitlines()[1]
        _, _, endpoint, _, handshake_at, rx_bytes, tx_bytes, _ = line.split("\t")
        return Shown(endpoint, int(handshake_at), int(rx_bytes), int(tx_bytes))
