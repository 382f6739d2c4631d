"""Two machines with a daemon and an interface each, where there is root or may be user namespaces.

They are network namespaces, joined by a virtual cable. They and all that runs in them live in namespaces of the demo's
own (network and process ids; without root, users too), so that nothing of this machine is touched.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import datetime
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from showing import COMMAND_S, Denied, Host, Running, check, environment, near, require, say, wait_for

from weft import __version__

EXAMPLES = Path(__file__).resolve().parent.parent
OVERLAY = IPv6Network("fc00::/8")
UNDERLAY = ("192.0.2.1", "192.0.2.2")
HTTP_PORT, THROUGHPUT_PORT = 8000, 5201
SECONDS = 5
SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "GBytes": 2**30, "MBytes": 2**20}
NEEDED = ("unshare", "nsenter", "ip", "ss", "ping")


class Machine(Host):
    """A network namespace."""

    def serves(self, command: str, port: int) -> AbstractContextManager[Running]:
        """Run a server of a TCP port in sight; see `types_in_background`."""
        listening = ("ss", "--no-header", "--listening", "--tcp", "--numeric", f"sport = :{port}")
        return self.types_in_background(command, lambda said: self.run(*listening))

    def is_plugged_in(self) -> bool:
        (link,) = json.loads(self.run("ip", "-json", "link", "show", "eth0"))
        return bool(link["operstate"] == "UP")

    def received_bytes(self) -> int:
        (link,) = json.loads(self.run("ip", "-json", "-stats", "link", "show", "weft0"))
        return int(link["stats64"]["rx"]["bytes"])


def namespaces() -> list[str] | Denied:
    """The command that runs another one in namespaces of its own, or why there is none."""
    if not sys.platform.startswith("linux"):
        return Denied("they need Linux")
    require(*NEEDED)
    own = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    for users in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *users, *own]
        tried = subprocess.run([*command, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return command
    return Denied(f"they need root, or user namespaces, and this machine gives neither ({tried.stderr.strip()})")


def make_hosts(directory: Path) -> tuple[Machine, Machine]:
    """Alice lives in the namespace that this process is in, Bob in another; a cable joins them."""
    keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    own = os.stat("/proc/self/ns/net").st_ino
    wait_for(lambda: os.stat(f"/proc/{keeper.pid}/ns/net").st_ino != own, "a second host is there", keeper)
    hosts = [
        Machine(name, underlay, directory / name, enter, environment() | {"WEFT_DIR": str(directory / name)})
        for name, underlay, enter in zip(
            ("alice", "bob"), UNDERLAY, ([], ["nsenter", "--net", "--target", str(keeper.pid)]), strict=True
        )
    ]
    alice, bob = hosts
    alice.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid))
    for host in hosts:
        host.run("ip", "address", "add", f"{host.underlay}/24", "dev", "eth0")
        host.run("ip", "link", "set", "lo", "up")
        host.run("ip", "link", "set", "eth0", "up")
    for host in hosts:
        wait_for(host.is_plugged_in, "the cable carries", keeper)
    return alice, bob


def tell(directory: Path) -> None:
    """The story."""
    alice, bob = make_hosts(directory)
    say("# Two machines, each with a daemon and an interface of its own.", style="2")
    for host in (alice, bob):
        show_up(host)
    say("# Alice calls Bob, at the address that Bob's daemon tells.", style="2")
    multiaddr = show_info(bob)
    with alice.types(f"weft peer connect {multiaddr}") as said:
        address, endpoint = said.line(r"connected to (\S+) via direct (\S+)")
        check(address == bob.address, f"{address} is Bob's address")
        check(endpoint == f"{bob.underlay}:1312", f"{endpoint} is where Bob listens")
    say("# Nothing comes in before it is allowed.", style="2")
    show_firewall(alice, bob)
    show_pings(alice, bob)
    show_fetch(alice, bob)
    show_throughput(alice, bob)
    say("# What the daemons say about it.", style="2")
    show_status(alice, bob)
    for host in (alice, bob):
        show_down(host)


def show_up(host: Machine) -> None:
    with host.types("weft up") as said:
        address, ifname = said.line(r"weft is up: (\S+) on (\S+)")
        host.learn()
        check(address == host.address, f"{address} is the address of {host.name}")
        check(IPv6Address(address) in OVERLAY, f"{address} is in {OVERLAY}")
        (link,) = json.loads(host.run("ip", "-json", "address", "show", "dev", ifname))
        check(address in {each["local"] for each in link["addr_info"]}, f"{ifname} has {address}")


def show_info(host: Machine) -> str:
    """Show who a host is; gives the multiaddr to dial."""
    with host.types("weft info") as said:
        multiaddr = f"/ip4/{host.underlay}/udp/1312/p2p/{host.info['id']}"
        said.line(rf"id +{host.info['id']}")
        said.line(rf"address +{host.address}")
        said.line(rf"public key +{re.escape(host.info['wireguard_public_key'])}")
        said.line(rf"multiaddr +{multiaddr}")
        said.line(rf"directory +{re.escape(str(host.directory))}")
        version, pid = said.line(r"daemon +weft (\S+), process (\d+)")
        check(version == __version__, f"this is weft {version}")
        check(b"weft" in Path(f"/proc/{pid}/cmdline").read_bytes(), f"the daemon has the process id {pid}")
    return multiaddr


def show_firewall(alice: Machine, bob: Machine) -> None:
    with alice.types(f"ping -c 1 {bob.address}", fails=True) as said:
        said.line(rf"PING {bob.address} ?\(.*\) 56 data bytes")
        said.line(rf"From {bob.address}:? icmp_seq=1 Destination unreachable: Administratively prohibited")
        said.line(rf"--- {bob.address} ping statistics ---")
        said.line(r"1 packets transmitted, 0 received, \+1 errors, 100% packet loss, time \d+ms")
    rules = ["/icmp", f"/tcp/{HTTP_PORT}", f"/tcp/{THROUGHPUT_PORT}"]
    with bob.types(f"weft fc00 allow {' '.join(rules)}") as said:
        for rule in rules:
            said.line(rf"allow {rule} +from everybody")
        said.line("all else that comes in is rejected")


def show_pings(alice: Machine, bob: Machine) -> None:
    with alice.types(f"ping -c 3 -i 0.2 {bob.address}") as said:
        said.line(rf"PING {bob.address} ?\(.*\) 56 data bytes")
        times = [
            float(said.line(rf"64 bytes from {bob.address}: icmp_seq={number} ttl=64 time=(\S+) ms")[0])
            for number in (1, 2, 3)
        ]
        said.line(rf"--- {bob.address} ping statistics ---")
        said.line(r"3 packets transmitted, 3 received, 0% packet loss, time \d+ms")
        least, mean, most = map(float, said.line(r"rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/[\d.]+ ms"))
        check(near(min(times), least, 0.01) and near(max(times), most, 0.01), "these are the least and the most")
        check(0 < least <= mean <= most < 1000, f"a round trip takes {mean} ms")
    with alice.types(f"weft ping -c 2 {bob.address}") as said:
        where = re.escape(f"{bob.underlay}:1312")
        trips = [float(said.line(rf"pong from {bob.address} via direct {where} in ([\d.e+]+) ms")[0]) for _ in range(2)]
        pattern = r"2 sent, 2 received, 0 % lost, round trip min / mean / max (\S+) ms / (\S+) ms / (\S+) ms"
        figures = [float(figure) for figure in said.line(pattern)]
        check(figures == sorted(figures) and figures[::2] == sorted(trips), "these are the least and the most")


def show_fetch(alice: Machine, bob: Machine) -> None:
    say("# What programs make of it: a web server, which sees Alice by her address.", style="2")
    page = bob.directory.parent / "page"
    page.mkdir()
    token = secrets.token_hex(8)
    (page / "hello.txt").write_text(f"hello over the network, {token}\n")
    url = f"http://[{bob.address}]:{HTTP_PORT}/hello.txt"
    fetch = f"curl --silent --show-error {url}"
    if not shutil.which("curl"):
        program = f'from urllib.request import urlopen; print(urlopen("{url}").read().decode(), end="")'
        fetch = f"python3 -c {shlex.quote(program)}"
    server = f"python3 -m http.server --bind {bob.address} --directory {shlex.quote(str(page))} {HTTP_PORT}"
    with bob.serves(server, HTTP_PORT) as running:
        with alice.types(fetch) as said:
            said.line(f"hello over the network, {token}")
        with bob.types(f"tail -n 1 {shlex.quote(str(running.log))}") as said:
            client, when = said.line(r'(\S+) - - \[(.+)\] "GET /hello.txt HTTP/1.1" 200 -')
            check(client == alice.address, f"{client} is Alice's address")
            age_s = (datetime.now() - datetime.strptime(when, "%d/%b/%Y %H:%M:%S")).total_seconds()
            check(-2 < age_s < COMMAND_S, f"it was {when} just now")


def show_throughput(alice: Machine, bob: Machine) -> None:
    say(f"# As much as goes through in {SECONDS} seconds.", style="2")
    serve, send = "iperf3 -s -1", f"iperf3 -c {bob.address} -t {SECONDS} -f g"
    if not shutil.which("iperf3"):
        program = f"python3 {shlex.quote(str(EXAMPLES / 'throughput.py'))}"
        serve, send = f"{program} receive {bob.address}", f"{program} send {bob.address} {SECONDS}"
    with bob.serves(serve, THROUGHPUT_PORT):
        before = bob.received_bytes()
        with alice.types(send, only="receiver") as said:
            pattern = r".* 0\.00-([\d.]+) +sec +([\d.]+) (\wBytes) +([\d.]+) Gbits/sec +receiver"
            seconds, amount, unit, rate = said.line(pattern)
            sent = float(amount) * SIZES[unit]
            got = bob.received_bytes() - before
            check(near(float(seconds), SECONDS, 0.2), f"it took {seconds} s")
            check(near(sent * 8 / float(seconds) / 1e9, float(rate), 0.05), f"that is {rate} Gbit/s")
            check(0.99 * sent < got < 1.15 * sent, f"{amount} {unit} came through the interface weft0")
            say(f"  {float(rate):.2f} Gbit/s through the tunnel")


def show_status(alice: Machine, bob: Machine) -> None:
    cell = r"  +"
    sizes: dict[tuple[str, str], tuple[float, int]] = {}
    for host, other in ((alice, bob), (bob, alice)):
        with host.types("weft status") as said:
            (peer,) = json.loads(host.run("weft", "peer", "list", "--json"))["peers"]
            check(peer["id"] == other.info["id"], f"the peer is {other.name}")
            said.line(cell.join((host.address, r"\(this node\)", "weft", "up weft0", "-", "-", "-", "-")))
            way = re.escape(f"up direct {other.underlay}:1312")
            numbers = (r"([\d.]+) ms", r"tx ([\d.]+) (\w+)", r"rx ([\d.]+) (\w+)")
            trip, tx, tx_unit, rx, rx_unit = said.line(
                cell.join((other.address, "-", "weft", way, *numbers, peer["mode"]))
            )
            check(0 < float(trip) < 5000, f"the round trip is {trip} ms")
            sizes[host.name, "tx"] = float(tx), SIZES[tx_unit]
            sizes[host.name, "rx"] = float(rx), SIZES[rx_unit]
    check(same_size(sizes["alice", "tx"], sizes["bob", "rx"]), "Bob received what Alice sent")
    check(same_size(sizes["bob", "tx"], sizes["alice", "rx"]), "Alice received what Bob sent")


def same_size(one: tuple[float, int], other: tuple[float, int]) -> bool:
    """Whether two sizes are the same but for their rounding to a tenth, and what came between the two looks."""
    (a, unit), (b, other_unit) = one, other
    return abs(a * unit - b * other_unit) <= 0.1 * max(unit, other_unit) + 0.03 * a * unit


def show_down(host: Machine) -> None:
    with host.types("weft down") as said:
        said.line("weft is down")
        check("does not exist" in host.run("ip", "link", "show", "weft0", check_code=False), "the interface is gone")
        # This is the first process of its namespace, so what a finished command left behind is its child.
        _, status = os.waitpid(host.info["pid"], 0)
        check(status == 0, "the daemon has ended well")
