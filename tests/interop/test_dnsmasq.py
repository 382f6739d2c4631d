"""Names from dnsmasq on bob, asked through the tunnel by a node without rights, and HTTP by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.ends import Ends, connected_ends
from tests.system.web import Web

pytestmark = [pytest.mark.system, pytest.mark.interop("dnsmasq", "nginx", "setpriv"), pytest.mark.timeout(120)]

V4, V6 = "10.9.0.7", "2001:db8::7"
MANY = [f"10.9.1.{number}" for number in range(60)]
"""Twice as many as fit into the server's largest datagram, so that it has to be asked again over TCP."""


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    with connected_ends(asks_bob=True) as ends:
        records = [
            f"--host-record=both.loom.test,{V4},{V6}",
            "--cname=alias.loom.test,other.loom.test",
            "--cname=other.loom.test,both.loom.test",
            f"--host-record=www.loom.test,{ends.pair.bob.address}",
            *(f"--host-record=many.loom.test,{address}" for address in MANY),
        ]
        server = ends.bob.start(
            *("dnsmasq", "--no-daemon", "--user=root", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"),
            *(
                f"--listen-address={ends.pair.bob.address}",
                "--bind-interfaces",
                "--pid-file=",
                "--local=/test/",
                "--edns-packet-max=512",
            ),
            *records,
        )
        server.wait_for("started")
        yield ends
        server.stop()


@pytest.mark.parametrize("name", ["both.loom.test", "alias.loom.test", "BOTH.Loom.test."])
def test_addresses_of_both_families_over_other_names_too(ends: Ends, name: str) -> None:
    assert ends.do("resolve", name) == [V4, V6]


def test_answer_that_needs_tcp(ends: Ends) -> None:
    assert ends.do("resolve", "many.loom.test") == sorted(MANY)


def test_name_that_there_is_not(ends: Ends) -> None:
    assert ends.do("resolve", "nothing.loom.test") == "name or service not known"


def test_names_of_the_network_are_nobody_elses_business(ends: Ends) -> None:
    assert ends.do("resolve", "bob.weft") == ends.do("resolve", ends.pair.bob.id) == [ends.pair.bob.address]


def test_web_server_by_its_name(ends: Ends) -> None:
    web = Web(ends.bob, ends.pair.lab.directory("web"), "www.loom.test")
    (web.files / "notes.txt").write_text("hello\n")
    server = web.start()
    answers = ends.do("get", "http://www.loom.test/notes.txt", "https://www.loom.test/notes.txt", roots=str(web.roots))
    server.stop()
    assert [answer["status"] for answer in answers] == [200, 200]
