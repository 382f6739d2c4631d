"""The command itself: its name, its version and the table of its commands."""

from __future__ import annotations

import click

from weft import __version__
from weft.cli.command import Group

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "This node": {
        "init": ("weft.cli.init:init", "Make a key and a commented weft.toml."),
        "up": ("weft.cli.up:up", "Start the daemon in the background, and the interface."),
        "down": ("weft.cli.up:down", "Take the interface away, and end the daemon."),
        "daemon": ("weft.cli.daemon:daemon", "Run the node in the foreground."),
        "info": ("weft.cli.info:info", "Show who this node is and where it can be reached."),
        "status": ("weft.cli.status:status", "Show this node and its peers, one line each."),
        "wait": ("weft.cli.wait:wait", "Return when the daemon answers, or a peer is up."),
        "key": ("weft.cli.key:key", "See, back up and restore the key."),
    },
    "Peers": {
        "peer": ("weft.cli.peer:peer", "Call, list, change, block and forget peers."),
        "ping": ("weft.cli.ping:ping", "Probe a peer, and show path and round trip."),
    },
    "Clients and servers": {
        "send": ("weft.cli.send:send", "Send files and folders to a peer."),
        "receive": ("weft.cli.receive:receive", "Receive files and folders from peers."),
        "fetch": ("weft.cli.fetch:fetch", "Fetch a file with HTTP, and go on where it broke off."),
        "tls": ("weft.cli.tls:tls", "Show certificates, and whether to trust them."),
        "serve": ("weft.cli.serve:serve", "Open a port or a folder of this machine for the network."),
        "forward": ("weft.cli.forward:forward", "Open a port of a peer on this machine."),
        "nc": ("weft.cli.nc:nc", "Connect to a port, for the standard streams."),
        "ssh": ("weft.cli.ssh:ssh", "Run a shell or a command on a peer, by its SSH server."),
        "scp": ("weft.cli.scp:scp", "Copy files and folders from and to a peer."),
        "sftp": ("weft.cli.sftp:sftp", "Look at and copy files of a peer."),
        "ssh-server": ("weft.cli.ssh_server:ssh_server", "Let peers log in, by their keys in the network."),
        "proxy": ("weft.cli.proxy:proxy", "Let programs into the network by SOCKS5 and HTTP."),
    },
    "Stock WireGuard devices": {
        "guest": ("weft.cli.guest:guest", "Take phones and other devices in."),
        "import": ("weft.cli.import_:import_", "Take the peers of a wg-quick file."),
        "wg-config": ("weft.cli.wg_config:wg_config", "Print the wg-quick file for a device."),
        "show": ("weft.cli.show_wg:show", "Show node and peers as `wg show` does."),
        "genkey": ("weft.cli.keys:genkey", "Make the private key of a device."),
        "genpsk": ("weft.cli.keys:genpsk", "Make a preshared key."),
        "pubkey": ("weft.cli.keys:pubkey", "Print the public key of a private key."),
    },
    "Interface and firewall": {
        "fc00": ("weft.cli.fc00:fc00", "The interface, and what others may reach through it."),
        "trace": ("weft.cli.trace:trace", "Show what would become of a packet, rule by rule."),
        "capture": ("weft.cli.capture:capture", "Show the packets inside the tunnels."),
    },
    "Settings": {
        "config": ("weft.cli.config:config", "Show, check and change the configuration."),
        "reload": ("weft.cli.reload:reload", "Let the daemon read weft.toml anew."),
        "listener": ("weft.cli.listener:listener", "Where this node listens for others."),
        "transport": ("weft.cli.transport:transport", "What carries the tunnels."),
    },
    "When something is wrong": {
        "logs": ("weft.cli.logs:logs", "Show what the daemon logged."),
        "task": ("weft.cli.task:task", "See and restart the tasks inside the daemon."),
        "bugreport": ("weft.cli.bugreport:bugreport", "Collect what a bug report needs, and name nobody."),
    },
    "Shells": {
        "completion": ("weft.cli.completion:completion", "Print the completion script for a shell."),
    },
}
"""All commands in the order of the help: where each is, and one line about it, so that the help loads none of them."""


class Root(Group):
    """The command itself, whose commands stand under headings."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        width = max(map(len, self.lazy))
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), line) for name, (_, line) in commands.items()])


@click.group(
    cls=Root,
    lazy={name: where for commands in COMMANDS.values() for name, (where, _) in commands.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "weft up                                                  # on both machines",
        "weft info                                                # shows what the other side has to dial",
        "weft peer connect /ip4/192.0.2.1/udp/1312/p2p/12D3KooW…  # on one of them",
        "weft fc00 allow /icmp /tcp/22                            # what the others may reach here",
        "weft status",
    ),
)
@click.version_option(__version__, message="weft %(version)s")
def weft() -> None:
    """Weave this machine into an encrypted network, peer to peer.

    The node of the machine is root's, in /etc/weft: `sudo` stands before each command for it. Everybody may have a node
    of their own, which needs root for its interface only.

    The exit code is 0 if it was done, 1 if that failed, 2 if it was asked wrongly, 130 if it was interrupted.

    Each option obeys a variable of the environment too, which its help shows: `--count` of `weft ping` is
    WEFT_PING_COUNT. Colours are for terminals only, and not if NO_COLOR is set.
    """
