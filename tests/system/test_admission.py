"""Who gets in: nodes with the same secret, with another one and with none, and a node that takes only whom it knows.

All live in one host and none has an interface. Whoever is refused waits for ten seconds; here all wait at once.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator

import pytest

from tests.system.lab import Lab
from tests.system.node import Node, at_once
from tests.system.process import Outcome

pytestmark = pytest.mark.system

GIVE_UP_S = 10


class Members:
    """Nodes by name; the letter in a name is the secret that the node has."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.host = lab.host("machine")
        self.secrets = {letter: secrets.token_urlsafe(32) for letter in "ab"}
        self.nodes: dict[str, Node] = {}

    def add(self, name: str, *, secret: str = "", accept: str = "any") -> None:
        directory = self.lab.directory(name)
        port = 2000 + len(self.nodes)
        config = f'[peer]\nlisten = ["/ip4/127.0.0.1/udp/{port}"]\naccept = "{accept}"\n'
        if secret:
            path = directory / "the.secret"
            path.touch(0o600)
            path.write_text(self.secrets[secret])
            config += '[network]\nsecret_file = "the.secret"\n'
        self.nodes[name] = Node(self.host, directory, config)

    def connect(self, caller: str, called: str) -> tuple[Outcome, float]:
        """How a call ends, and after how many seconds."""
        began = time.monotonic()
        outcome = self.nodes[caller].outcome("peer", "connect", self.nodes[called].info.multiaddrs[0])
        return outcome, time.monotonic() - began


@pytest.fixture(scope="module")
def members() -> Iterator[Members]:
    with Lab() as lab:
        members = Members(lab)
        members.add("a", secret="a")
        members.add("friend", secret="a")
        members.add("b", secret="b")
        members.add("open")
        members.add("visitor")
        members.add("reserved", accept="known")
        at_once(Node.run_daemon, *members.nodes.values())
        yield members


REFUSED = [("b", "a"), ("open", "a"), ("a", "open"), ("visitor", "reserved")]


def test_whoever_has_another_secret_or_none_or_is_unknown_is_told_after_ten_seconds(members: Members) -> None:
    for (outcome, seconds), (caller, called) in zip(
        at_once(lambda pair: members.connect(*pair), *REFUSED), REFUSED, strict=True
    ):
        assert (outcome.code, outcome.out) == (1, ""), (caller, called)
        assert re.fullmatch(
            r"weft: no answer from 127\.0\.0\.1:\d+ within 10 s: nobody listens there, a firewall is between, or it "
            r"does not accept this node \(its peer id and network secret must be right\)\n",
            outcome.err,
        )
        assert GIVE_UP_S <= seconds < GIVE_UP_S + 3
        assert all(peer.state != "up" for peer in members.nodes[caller].status().peers)


def test_whoever_has_the_same_secret_gets_in(members: Members) -> None:
    outcome, seconds = members.connect("friend", "a")
    assert (outcome.code, outcome.err) == (0, "")
    assert seconds < 5
    assert members.nodes["friend"].weft("ping", "-c", "1", members.nodes["a"].id)


def test_node_that_takes_whom_it_knows_takes_whom_it_has_called(members: Members) -> None:
    reserved, visitor = members.nodes["reserved"], members.nodes["visitor"]
    outcome, _ = members.connect("reserved", "open")
    assert outcome.code == 0
    assert members.connect("reserved", "visitor")[0].code == 0
    assert visitor.weft("ping", "-c", "1", reserved.id)
    # Known is for good: the visitor may come back by itself.
    visitor.weft("peer", "disconnect", reserved.id)
    assert members.connect("visitor", "reserved")[0].code == 0
