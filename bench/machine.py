"""Where and with what a run was made."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
from pathlib import Path

from bench.namespaces import BenchError, run


def describe() -> dict[str, str]:
    """What a reader of the figures has to know of the machine, by name."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"),
        "cpu": f"{os.cpu_count()} x {cpu}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tcp": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "load at start": f"{os.getloadavg()[0]:.2f}",
        "iperf3": first_line("iperf3", "--version"),
        "wireguard-go": package_version("wireguard-go"),
        **({"WIREGUARD_GO": first_line(current, "--version")} if (current := os.environ.get("WIREGUARD_GO")) else {}),
    }


def first_line(*argv: str) -> str:
    """The first line that a command prints, or that it does not."""
    try:
        return run(*argv).splitlines()[0].strip()
    except (BenchError, IndexError):
        return "unknown"


def package_version(name: str) -> str:
    """The version of a Debian package, or what the program says of itself."""
    if shutil.which("dpkg-query"):
        return first_line("dpkg-query", "--show", "--showformat=${Version}", name)
    return first_line(name, "--version")
