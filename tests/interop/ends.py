"""Both ends of a tunnel with programs on them: alice, and a node without any right beside her; and bob.

Bob's programs are those of his machine and use his TUN, as do those of alice; the node without rights has a stack of
its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.system.lab import Host
from tests.system.node import Node, Pair, connected_pair
from tests.system.process import Process

WITHOUT_RIGHTS = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")


@dataclass
class Ends:
    """The tunnel and who is at its ends.

    Attributes:
        directory: for files; everybody can read it.
        roots: certificate of the authority that `certificate` issues by.
        address: of the node without rights.
    """

    pair: Pair
    rootless: Process
    directory: Path
    authority: trustme.CA
    address: str = ""

    @property
    def alice(self) -> Node:
        return self.pair.alice

    @property
    def bob(self) -> Host:
        return self.pair.bob.host

    @property
    def roots(self) -> Path:
        return self.directory / "roots.pem"

    def do(self, what: str, *words: Any, timeout_s: float = 30, **wishes: Any) -> Any:
        """Let the node without rights do something; see `tests.interop.rootless`."""
        answer = json.loads(self.rootless.ask(json.dumps({"do": what, "words": words, **wishes}), timeout_s))
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{answer['kind']}: {answer['error']}")
        return answer

    def without_tun(self, kind: type[Node] = Node, name: str = "stack", port: int = 1313) -> Node:
        """One more node on alice, which has the network inside its daemon and knows bob.

        Args:
            kind: of the node.
            name: of its directory.
            port: UDP, where it listens.
        """
        config = f'[fc00]\ndevice = "stack"\n[peer]\nlisten = ["/ip4/0.0.0.0/udp/{port}"]\n'
        node = kind(self.alice.host, self.pair.lab.directory(name), config)
        node.up()
        node.connect(self.pair.bob, self.pair.right)
        node.weft("peer", "set", self.pair.bob.address, "--name", "bob")
        return node

    def certificate(self, *names: str, **options: Any) -> Path:
        """A file with a certificate for these names, and its key."""
        file = self.directory / f"{len(list(self.directory.iterdir()))}.pem"
        issuer = options.pop("issuer", self.authority)
        issuer.issue_cert(*names, **options).private_key_and_cert_chain_pem.write_to_path(str(file))
        return file


@contextmanager
def connected_ends(*, asks_bob: bool = False) -> Iterator[Ends]:
    """Make them; the node without rights asks a server of DNS on bob for names, or none."""
    with connected_pair() as pair:
        directory = pair.lab.directory("files")
        for path in (directory, directory.parent):
            path.chmod(0o755)
        pair.alice.weft("peer", "set", pair.bob.address, "--name", "bob")
        rootless = pair.alice.host.start(
            *WITHOUT_RIGHTS,
            *(sys.executable, "-m", "tests.interop.rootless", pair.bob.multiaddr(pair.right)),
            *([pair.bob.address] if asks_bob else []),
            name="a node without rights",
        )
        rootless.wait_for("ready")
        ends = Ends(pair, rootless, directory, trustme.CA())
        ends.authority.cert_pem.write_to_path(str(ends.roots))
        ends.address = ends.do("info")["address"]
        yield ends
