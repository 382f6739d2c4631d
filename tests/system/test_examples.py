"""What the help shows works: each example of each command is run.

They are typed on bob. Alice, whom they call loom and who has the address that they name, lets ICMP in and has a web
server that bob's system trusts and an SSH server that knows his key, and bob is connected with her; `phone` and `hub`
are WireGuard devices. Before the commands under one heading of the help all is as at first; they come in the order of
the help, and `FIRST` is what one of them presumes and those before it do not leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from random import Random

import pytest

from tests.interop.openssh import OpenSsh, start_sshd
from tests.system.lab import Lab
from tests.system.transcript import ANY, Stage, Step
from tests.system.web import Web
from weft.cli.command import Command, every_command
from weft.cli.root import COMMANDS, weft
from weft.identity import generate

pytestmark = [pytest.mark.system("nginx", "curl"), pytest.mark.timeout(120)]

LOOM = generate(Random("identity alice").randbytes)
ADDRESS = str(IPv6Address(LOOM.address))
MULTIADDR = f"/ip4/192.0.2.1/udp/1312/p2p/{LOOM.peer_id}"

HERE = {"12D3KooW…": str(LOOM.peer_id), "fc89:54a1:b598:365f:357:d6a:b108:db7b": ADDRESS}
"""What is another thing for everybody, and what it is here."""

SHELL = """
set -o pipefail
fpath=(. .)  # a list of zsh
export SSL_CERT_FILE=~/loom.pem
gpg() { if [ "$1" = -d ]; then base64 -d "$2"; else base64 > "$3"; fi; }  # which asks a person for a passphrase
"""

MACHINE = r"""
set -e; umask 077
cp -a /etc ~/etc && mount --bind ~/etc /etc
mount -t tmpfs tmpfs /media && mkdir -p /media/stick ~/.config/fish/completions /etc/bash_completion.d /etc/wireguard
printf '127.0.0.1 localhost\n192.0.2.1 loom.example.org\n192.0.2.2 vpn.example.org\n192.0.2.9 hub.example.org\n' \
  > /etc/hosts
wg genkey | tee phone.key | wg pubkey > phone.pub
for key in phone.new hub office; do wg genkey | wg pubkey > $key.pub; done
wg genpsk | tee hub.psk > lab.secret
printf '[Interface]\nAddress = 10.9.0.1/24\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.0.2/32\n' $(cat office.pub) \
  > /etc/wireguard/wg0.conf
weft --dir ~/other init && mv ~/other/weft.toml ~/new.toml
mkdir -m 700 .ssh notes && cp ~/loom.ssh .ssh/id_ed25519 && echo 'get /etc/hosts hosts.nightly' > nightly.sftp
echo anna:s3cret > proxy.users
mount -t tmpfs tmpfs /srv && mkdir /srv/files
"""
ADD_LOOM = f"weft peer connect {MULTIADDR} --name loom"
ADD_PHONE = "weft peer add-wireguard $(cat phone.pub) --name phone --allowed-ips 10.7.0.2/32"
NO_NODE = "weft down; rm -rf /etc/weft/*"
AS_AT_FIRST = f"""python -c '
from contextlib import suppress
from weft.api.client import NoDaemon
from weft.api.v0 import fc00, peer
from weft.cli.settings import Settings
from weft.cli.up import start_daemon, stop_daemon
from weft.engine.initial import ensure_initialised

settings = Settings()
client = settings.client
with suppress(NoDaemon):
    stop_daemon(client)
for file in settings.directory.iterdir():
    file.unlink()
ensure_initialised(settings.directory)
start_daemon(settings)
client.call(fc00.START, fc00.StartInterface())
client.call(peer.CONNECT, peer.Connect(target="{MULTIADDR}", name="loom"))
key = open("phone.pub").read().strip()
client.call(peer.ADD_WIREGUARD, peer.AddWireguard(public_key=key, name="phone", allowed_ips=["10.7.0.2/32"]))
'"""
"""A node that knows loom and phone, by a program that has to be loaded once only."""
TRAFFIC = f"ping -i 0.005 -c 2400 {ADDRESS} > /dev/null 2>&1 &"
TUN = """
ip tuntap add weft0 mode tun vnet_hdr && ip link set weft0 mtu 1352 up
ip addr add $(weft info --json | jq -r .address)/128 dev weft0 && ip route add fc00::/8 dev weft0
"""
DAEMON_WITHOUT_RIGHTS = """
weft --dir ~/lab init
setpriv --bounding-set -net_admin weft --dir ~/lab daemon > /dev/null 2>&1 &
weft --dir ~/lab wait
"""
ENDS_IT = "(weft wait && weft down) > /dev/null 2>&1 &"

TAKES_FILES = """
import asyncio, pathlib, tempfile, weft
from weft.clients.parcel.inbox import open_inbox

async def main():
    folder = pathlib.Path(tempfile.mkdtemp())
    async with weft.Node.attach() as node, await open_inbox(node, folder, allowed=lambda _: True) as inbox:
        print("taking", flush=True)
        while True:
            await inbox.next()

asyncio.run(main())
"""

FIRST = {
    "weft up": "weft down",
    "weft init": NO_NODE,
    "weft genpsk | weft init --network-secret -": NO_NODE,
    "sudo weft up": f"{NO_NODE}; weft --dir ~/lab down",
    "weft --dir ~/lab up": "weft down",
    "export WEFT_DIR=~/lab; weft up": "weft --dir ~/lab down; weft down",
    "weft up --tun userspace-networking": "weft --dir ~/lab down",
    "sudo weft down": "weft --dir ~/lab down; weft up",
    "weft --dir ~/lab down": "weft --dir ~/lab up",
    "weft init && weft daemon": ENDS_IT,
    "weft --dir ~/lab daemon 2> lab.log": f"WEFT_DIR=~/lab; export WEFT_DIR; {ENDS_IT}",
    "weft info --json | jq -r '.multiaddrs[0]'": AS_AT_FIRST,
    "weft key restore /media/stick/weft.key": NO_NODE,
    "gpg -d weft.key.gpg | weft key restore -": NO_NODE,
    "weft peer block loom": ADD_LOOM,
    "weft peer unblock 12D3KooW…": "weft peer block loom",
    'weft peer set phone --public-key "$(cat phone.new.pub)" --psk-file none': ADD_PHONE,
    'weft peer add-wireguard "$(cat phone.pub)" --name phone --allowed-ips 10.7.0.2/32': "weft peer remove phone",
    "weft ping loom": "weft peer connect loom",
    "weft guest add phone": "weft peer remove phone",
    "weft guest add phone --endpoint vpn.example.org:1312 --allowed-ips 10.7.0.2/32": "weft peer remove phone",
    "weft fc00 start --ifname weft1": "weft fc00 stop",
    "sudo weft --dir ~/lab fc00 start": f"weft down; {DAEMON_WITHOUT_RIGHTS}",
    "weft fc00 start --existing weft0": f"weft --dir ~/lab down; weft up; weft fc00 stop; {TUN}",
    "weft fc00 start --stack": "weft fc00 stop",
    "weft fc00 stop && weft fc00 start --ifname weft1": "weft fc00 stop; ip link del weft0; weft fc00 start",
    "weft capture": f"{AS_AT_FIRST}; {TRAFFIC}",
    "weft ssh loom": "weft ssh --accept-new loom true",
    "weft send notes.txt loom": "echo hello > notes.txt; mkdir photos; echo dawn > photos/dawn.jpg",
    "weft receive --yes --json downloads | jq -r '.paths[]'": "mkdir downloads",
}

GOES_ON = {
    "weft status --watch --active": "loom",
    "weft logs -f": "ready",
    "weft capture": "loom",
    "weft capture --peer loom --dropped": "loom",
    "weft capture --snap 128 -w - | tcpdump -n -r - icmp6": "ICMP6, echo request",
    "weft proxy": "proxy for the network on 127.0.0.1:1080",
    "weft proxy --listen 1090": "proxy for the network on 127.0.0.1:1090",
    "weft proxy --listen 192.0.2.2:1080 --auth proxy.users": "proxy for the network on 192.0.2.2:1080",
    "weft serve 8080": "is open for nobody yet",
    "weft serve 80 --to 8080": "it leads to 127.0.0.1 port 8080",
    "weft serve 443 --tls --to printer.example.org:80": "its certificate is /etc/weft/serve_cert.pem, sha256",
    "weft serve 8080 --dir /srv/files": "/srv/files is at http://[fc",
    "weft forward 8080 loom:80": "127.0.0.1 port 8080 is open for this machine",
    "weft forward 0.0.0.0:5433 loom:5432": "is open for whoever reaches this machine",
    "weft forward [::1]:2222 [fc89:54a1:b598:365f:357:d6a:b108:db7b]:22": "::1 port 2222 is open for this machine",
    "weft nc -l 9000 > notes.tar": "port 9000 is open for nobody yet",
    "weft receive --from loom": "receiving on port 1313",
    "weft receive --from loom --loop --conflict overwrite /srv/files": "receiving on port 1313",
    "weft receive --yes --json downloads | jq -r '.paths[]'": "receiving on port 1313",
    "weft ssh-server loom": "loom may log in",
    "weft ssh-server -p 2222 loom 12D3KooW…": "; loom, 12D3KooW",
    "weft ssh-server --sftp-root /srv/files loom": "loom may log in",
}
"""What ends by an interrupt, and what it must have shown by then."""


def examples_by_heading() -> dict[str, list[str]]:
    """Each example once, without its comment, by the heading of its command; first those of `weft` itself."""
    headings = {name: heading for heading, commands in COMMANDS.items() for name in commands}
    found: dict[str, str] = {}
    for way, command in every_command(weft):
        assert isinstance(command, Command)
        for line in command.examples:
            found.setdefault(line.partition("  #")[0].rstrip(), headings[way[0]] if way else "weft")
    return {heading: [line for line in found if found[line] == heading] for heading in found.values()}


EXAMPLES = examples_by_heading()


def step_of(line: str) -> Step:
    """An example as the step of a transcript."""
    command = line
    for there, here in HERE.items():
        command = command.replace(there, here)
    output = [ANY, f"{ANY}{GOES_ON[line]}{ANY}", ANY, "^C"] if line in GOES_ON else []
    return Step(0, "bob", SHELL + command, output)


def serve_files(stage: Stage) -> None:
    """Start a web server on alice, whom bob trusts."""
    web = Web(stage.lab.hosts["alice"], stage.lab.directory("web"), "loom", "loom.example.org", ADDRESS)
    for name in ("notes.txt", "disk.img", "report.pdf"):
        (web.files / name).write_text(f"{name}\n")
    (stage.directories["bob"] / "home" / "loom.pem").write_bytes(web.roots.read_bytes())
    web.start()


def serve_ssh(stage: Stage) -> None:
    """Start OpenSSH's server on alice, who has an account anna and takes the key in bob's home."""
    server = OpenSsh(stage.lab.directory("ssh"))
    server.folder.chmod(0o755)
    (stage.directories["bob"] / "home" / "loom.ssh").write_bytes(server.user_key.read_bytes())
    ports = [f"[{ADDRESS}]:{port}" for port in (22, 2222)]
    start_sshd(stage.lab.hosts["alice"], server, *ports, account="anna")


def wait_for_notes(stage: Stage) -> None:
    """Wait on alice for what bob sends with `weft nc`."""
    waits = "until grep -q 9000 nc.log; do sleep 0.05; done"
    stage.run(Step(0, "alice", f"weft nc -l 9000 < /dev/null > /dev/null 2> nc.log & {waits}"))


def take_files(stage: Stage) -> None:
    """Let alice take the files that bob sends, who is another node under each heading."""
    waits = "until grep -q taking taken.log; do sleep 0.05; done"
    stage.run(Step(0, "alice", f"python -c '{TAKES_FILES}' < /dev/null > taken.log 2>&1 & {waits}"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        stage = Stage(lab, {"alice", "bob"})
        stage.run(
            Step(
                0,
                "alice",
                "weft up && weft fc00 allow /icmp /tcp/80 /tcp/443 /tcp/8443 /tcp/22 /tcp/2222 /tcp/9000 /tcp/1313",
            )
        )
        serve_files(stage)
        wait_for_notes(stage)
        serve_ssh(stage)
        take_files(stage)
        stage.run(Step(0, "bob", MACHINE))
        yield stage


@pytest.mark.parametrize("heading", EXAMPLES)
def test_examples_of_the_help_work(stage: Stage, heading: str) -> None:
    stage.run(Step(0, "bob", AS_AT_FIRST))
    faults = []
    for line in EXAMPLES[heading]:
        if line in FIRST:
            stage.run(Step(0, "bob", f"{FIRST[line]}\ntrue"))
        try:
            output = stage.run(step_of(line))
            assert "| jq" not in line or output.strip() != "null", f"{line}\n{output}"
        except AssertionError as fault:
            faults.append(str(fault).replace(SHELL, ""))
    assert not faults, "\n\n".join(faults)


def test_what_is_known_of_examples_is_of_examples_that_there_are() -> None:
    shown = {line for lines in EXAMPLES.values() for line in lines}
    assert FIRST.keys() | GOES_ON.keys() <= shown
