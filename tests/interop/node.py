"""A weft node in a host: set up by its command as a person would, and asked over its API."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from tests.system.lab import Host
from tests.system.process import Process
from tests.system.waiting import until
from weft.api import routes
from weft.api.client import Client, NoDaemon
from weft.api.unix_socket import FILE_NAME
from weft.engine.status import PeerStatus
from weft.errors import Broken
from weft.io.store import Store

PORT = 1312
IFNAME = "weft0"


class Node:
    """One daemon with a directory of its own; `program` is the module that is the command."""

    def __init__(self, host: Host, directory: Path, program: str = "weft") -> None:
        self.host = host
        self._program = program
        self.directory = directory
        self.process: Process
        self.client = Client(directory / FILE_NAME)
        made = json.loads(self.weft("init", "--json"))
        self.address: str = made["address"]
        self.public_key = ""

    def weft(self, *arguments: str, check: bool = True) -> str:
        """Run the command on this node."""
        return self.host.weft("--dir", str(self.directory), *arguments, check=check)

    def start(self, *allow: str) -> None:
        """Run the daemon, make the interface, and allow what is given."""
        self.run_daemon()
        self.weft("fc00", "start", "--ifname", IFNAME)
        if allow:
            self.weft("fc00", "allow", *allow)

    def run_daemon(self) -> None:
        """Run the daemon; returns when it answers."""
        self.process = self.host.start(
            sys.executable, "-m", self._program, "daemon", "--dir", str(self.directory), name="weft daemon"
        )
        self.public_key = until(self._answer, f"the daemon in {self.host.name}", 20)

    def _answer(self) -> str | None:
        assert self.process.running, self.process.output()
        try:
            return self.client.call(routes.INFO).wireguard_public_key
        except (NoDaemon, Broken):
            return None

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        self.process.stop(signal.SIGKILL)

    def peer(self, name: str = "stock") -> PeerStatus:
        """What the node says about a peer."""
        (found,) = (peer for peer in self.client.call(routes.PEER_LIST).peers if peer.name == name)
        return found

    def stored_endpoints(self, name: str = "stock") -> list[str]:
        """Where the node would call a peer after a new start, as multiaddrs."""
        (found,) = (peer for peer in Store(self.directory).load_state().peers if peer.name == name)
        return found.endpoints

    def dropped(self, reason: str) -> int:
        """How often it dropped something for a reason."""
        return self.client.call(routes.STATUS).drops.get(reason, 0)
