"""`weft tls`: what it shows of a server, and how it ends."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.unit.cli import loopback
from tests.unit.cli.loopback import serving
from tests.unit.cli.terminal import Terminal
from tests.unit.clients.certificates import Files
from weft.cli.schemas import schemas
from weft.clients.tls.connect import server_context


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.cli.tls.attached", loopback.attached)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "tls").mkdir()
    return Files(tmp_path / "tls")


async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


class TestShown:
    def test_trusted(self, weft: Terminal, files: Files) -> None:
        with serving(speak, files.server()) as port:
            seen = weft("tls", f"right:{port}", "--ca", str(files.roots))
        assert (seen.code, seen.err) == (0, "")
        first, header, own, root, names, sha256, verdict = seen.out.splitlines()
        assert first == f"right port {port} (127.0.0.1): TLSv1.3, TLS_AES_256_GCM_SHA384"
        assert header.split() == ["certificate", "issued", "by", "valid", "key"]
        assert own.startswith("0  OU=Testing cert #")
        assert own.endswith("EC secp256r1")
        assert root.startswith("1  OU=Testing CA #")
        assert "  itself  " in root
        assert names == "names   right, fc00::2"
        assert sha256.startswith("sha256  ")
        assert verdict.startswith("trusted: it is for right, and OU=Testing CA #")

    def test_not_trusted(self, weft: Terminal, files: Files) -> None:
        with serving(speak, server_context(files.self_signed())) as port:
            seen = weft("tls", f"right:{port}")
        assert seen.code == 1
        assert seen.out.endswith("\nnot trusted: it is self-signed: nobody vouches for it but itself\n")
        assert "0  right " in seen.out

    def test_name_that_would_be_lines_of_its_own_is_a_part_of_one(self, weft: Terminal, files: Files) -> None:
        forged = "x\ntrusted: it is for right\x1b[2J"
        with serving(speak, server_context(files.self_signed(forged))) as port:
            seen = weft("tls", f"right:{port}")
        assert seen.code == 1
        assert [line.split()[0] for line in seen.out.splitlines()] == [
            "right",
            "certificate",
            "0",
            "names",
            "sha256",
            "not",
        ]
        assert "\x1b" not in seen.out

    def test_other_name(self, weft: Terminal, files: Files) -> None:
        with serving(speak, files.server()) as port:
            seen = weft("tls", f"127.0.0.1:{port}", "--ca", str(files.roots))
            named = weft("tls", f"127.0.0.1:{port}", "--ca", str(files.roots), "--name", "right")
        assert seen.out.endswith("\nnot trusted: it is for right, fc00::2, and not for 127.0.0.1\n")
        assert seen.out.startswith(f"127.0.0.1 port {port}: ")
        assert named.code == 0

    def test_protocol_inside(self, weft: Terminal, files: Files) -> None:
        with serving(speak, server_context(files.certificate(), alpn=["h2"])) as port:
            seen = weft("tls", f"right:{port}", "--ca", str(files.roots), "--alpn", "h2,http/1.1")
        assert seen.out.splitlines()[0].endswith("TLS_AES_256_GCM_SHA384, h2")

    def test_server_that_refuses(self, weft: Terminal, files: Files) -> None:
        with serving(speak, server_context(files.certificate(), clients=files.roots)) as port:
            seen = weft("tls", f"right:{port}", "--ca", str(files.roots))
            own = str(files.certificate("me@example.org"))
            known = weft("tls", f"right:{port}", "--ca", str(files.roots), "--cert", own)
        assert seen.code == 1
        assert "\ntrusted: " in seen.out
        # asyncio's own server says nothing of it; others do, as the tests of clients/ show.
        assert seen.out.endswith("\nrefused: the other side ended the connection at once\n")
        assert known.code == 0

    def test_names_of_others_move_no_cursor(self, weft: Terminal, files: Files) -> None:
        with serving(speak, server_context(files.self_signed("a\x1b[2Jb"))) as port:
            seen = weft("tls", f"right:{port}")
        assert "\x1b" not in seen.out

    def test_json(self, weft: Terminal, files: Files) -> None:
        with serving(speak, files.server()) as port:
            seen = weft("tls", f"right:{port}", "--json")
        told = json.loads(seen.out)
        jsonschema.validate(told, schemas()["weft tls"], cls=jsonschema.Draft202012Validator)
        assert seen.code == 1
        assert (told["schema"], told["trusted"], told["version"]) == (1, False, "TLSv1.3")
        assert told["chain"][0]["names"] == ["right", "fc00::2"]


class TestFailures:
    def test_nobody_there(self, weft: Terminal) -> None:
        with serving(speak) as port:
            pass
        seen = weft("tls", f"right:{port}")
        assert (seen.code, seen.out, seen.err) == (1, "", f"weft: right:{port}: connection refused\n")

    def test_no_tls(self, weft: Terminal) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            await reader.read()

        with serving(greet) as port:
            seen = weft("tls", f"right:{port}")
        assert (seen.code, seen.err) == (1, f"weft: right:{port}: what answers there does not speak TLS\n")

    def test_silence(self, weft: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("weft.cli.tls.PATIENCE_S", 0.1)
        with serving(speak) as port:
            seen = weft("tls", f"right:{port}")
        assert (seen.code, seen.err) == (1, f"weft: right:{port}: no answer\n")

    def test_file_that_is_not_there(self, weft: Terminal, tmp_path: Path) -> None:
        seen = weft("tls", "right", "--ca", str(tmp_path / "none.pem"))
        assert seen.code == 1
        assert "none.pem: No such file or directory" in seen.err

    def test_key_without_a_certificate(self, weft: Terminal) -> None:
        seen = weft("tls", "right", "--key", "key.pem")
        assert seen.code == 2
        assert "--cert" in seen.err

    def test_extra_that_is_not_installed(self, weft: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "truststore", None)
        monkeypatch.delitem(sys.modules, "weft.clients.tls.system_roots", raising=False)
        seen = weft("tls", "right")
        assert seen.code == 2
        assert "pip install 'weft[http]'" in seen.err
