"""`weft genkey`, `genpsk`, `pubkey`, held against the real `wg` where that is installed."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from tests.unit.cli.terminal import Seen, Terminal
from weft.identity import address_of

ZERO = 43 * "A" + "="


@pytest.fixture
def give(weft: Terminal, monkeypatch: pytest.MonkeyPatch):
    def run(text: str | bytes, *args: str) -> Seen:
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        return weft(*args)

    return run


def test_key_that_is_made_has_an_address_that_pubkey_tells(weft: Terminal, give) -> None:
    made = weft("genkey")
    assert (made.code, made.err) == (0, "")
    public = give(made.out, "pubkey")
    address = give(made.out, "pubkey", "--address")
    assert address.out.strip() == str(IPv6Address(address_of(b64decode(public.out))))
    assert address.out.startswith("fc")
    assert made.out != weft("genkey").out


def test_json_of_the_three_has_key_and_address(weft: Terminal, give) -> None:
    made = json.loads(weft("genkey", "--json").out)
    told = json.loads(give(made["key"], "pubkey", "--json").out)
    assert made["schema"] == told["schema"] == 1
    assert made["address"] == told["address"]
    assert json.loads(weft("genpsk", "--json").out)["address"] is None


@pytest.mark.interop("wg")
def test_wg_and_weft_agree_on_keys(weft: Terminal, give) -> None:
    if shutil.which("wg") is None:
        pytest.skip("needs wg in the PATH")
    for private in (weft("genkey").out, subprocess.check_output(["wg", "genkey"], text=True)):
        assert give(private, "pubkey").out == subprocess.check_output(["wg", "pubkey"], input=private, text=True)
    assert len(b64decode(weft("genpsk").out)) == 32


@pytest.mark.parametrize("text", ["", "hello\n", f"{ZERO}\n{ZERO}\n", ZERO[:-1], b"\xff\xfe", "x" * 10_000])
def test_what_is_no_private_key_is_refused_and_not_repeated(give, text: str | bytes) -> None:
    seen = give(text, "pubkey")
    assert (seen.code, seen.out) == (1, "")
    assert seen.err == "weft: standard input is no private key; `weft genkey` makes one\n"


def test_key_of_wg_without_an_address_is_told_so(give) -> None:
    assert give(ZERO, "pubkey").code == 0
    seen = give(ZERO, "pubkey", "--address")
    assert (seen.code, seen.out) == (1, "")
    assert "has no address in fc00::/8" in seen.err


@pytest.mark.parametrize("command", ["genkey", "genpsk"])
@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True)])
def test_secret_that_goes_to_a_file_for_everybody_is_warned_of(
    tmp_path: Path, command: str, mode: int, warned: bool
) -> None:
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    with path.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "weft", command],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | {"WEFT_DIR": str(tmp_path)},
        )
    assert ("umask 077" in done.stderr) is warned
    assert len(path.read_text()) == 45
