"""The text of WireGuard's userspace protocol, in which `wg` talks to an implementation outside the kernel.

A request is a few lines `key=value` and an empty line; so is the reply, whose last line is `errno=`. Keys are in hex.

    get=1                               set=1
                                        public_key=5c3f…
    private_key=e84b…                   endpoint=192.0.2.1:51820
    listen_port=1312                    replace_allowed_ips=true
    public_key=b85996…                  allowed_ip=10.7.0.2/32
    allowed_ip=fc89:…/128
    errno=0                             errno=0

Rules of the file: a line of `public_key` opens a peer, and the lines after it are the peer's; each line is a row of a
table; a key that is in none, a value that is out of bounds, or a line too many is a `DecodeError`, and then nothing of
the request is done.

Source: https://www.wireguard.com/xplatform/, "Configuration Protocol"; `allowed_ip=-…` as newer `wg` writes it.
Not done here: sockets (uapi_server.py), and what a change does (engine/verbs/wireguard.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

from weft.engine.device import AllowedIpChange, Device, DeviceChange, DevicePeer, PeerChange
from weft.errors import DecodeError
from weft.identity import KEY_BYTES

MAX_LINE_BYTES = 256
MAX_REQUEST_BYTES = 8 << 20
MAX_PEERS = 16_384

_NS = 1_000_000_000


def decode_request(data: bytes) -> DeviceChange | None:
    """Decode what `wg` asks.

    Args:
        data: the lines of one request, with or without the empty line at its end.

    Returns:
        None if it wants to know; else what it wants to change.

    Raises:
        DecodeError: it is no request of the protocol's version 1, or too large.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise DecodeError(f"at most {MAX_REQUEST_BYTES} bytes", offset=MAX_REQUEST_BYTES)
    lines = _lines(data)
    offset, operation, version = next(lines, (0, "", ""))
    if operation not in {"get", "set"} or version != "1":
        raise DecodeError("get=1 or set=1", offset=offset)
    if operation == "get":
        for offset, _, _ in lines:
            raise DecodeError("nothing after get=1", offset=offset)
        return None
    return _decode_set(lines)


def encode_device(device: Device) -> bytes:
    """Encode the reply to `get=1`, without its `errno`."""
    lines = [f"private_key={device.private_key.hex()}", f"listen_port={device.listen_port}"]
    if device.fwmark:
        lines.append(f"fwmark={device.fwmark}")
    for peer in device.peers:
        lines += _encode_peer(peer)
    return "".join(f"{line}\n" for line in lines).encode()


def encode_errno(errno: int) -> bytes:
    """Encode the end of a reply.

    Args:
        errno: 0, or what went wrong, of `errno.h`; it is sent negative, as wireguard-go does and `wg` takes it.
    """
    return f"errno={-errno}\n\n".encode()


def _encode_peer(peer: DevicePeer) -> Iterator[str]:
    seconds, nanoseconds = divmod(peer.handshake_at_ns, _NS)
    yield f"public_key={peer.public_key.hex()}"
    yield f"preshared_key={peer.preshared_key.hex()}"
    yield "protocol_version=1"
    if peer.endpoint is not None:
        yield f"endpoint={peer.endpoint}"
    yield f"last_handshake_time_sec={seconds}"
    yield f"last_handshake_time_nsec={nanoseconds}"
    yield f"tx_bytes={peer.tx_bytes}"
    yield f"rx_bytes={peer.rx_bytes}"
    yield f"persistent_keepalive_interval={peer.keepalive_s}"
    for network in peer.allowed_ips:
        yield f"allowed_ip={network}"


def _lines(data: bytes) -> Iterator[tuple[int, str, str]]:
    """Offset, key and value of each line up to the first empty one."""
    offset = 0
    while offset < len(data):
        end = data.find(b"\n", offset, offset + MAX_LINE_BYTES + 1)
        if end < 0 and len(data) - offset > MAX_LINE_BYTES:
            raise DecodeError(f"a line of at most {MAX_LINE_BYTES} bytes", offset=offset)
        line = data[offset : end if end >= 0 else len(data)]
        if not line:
            return
        key, equals, value = line.partition(b"=")
        if not (equals and line.isascii()):
            raise DecodeError("a line key=value", offset=offset)
        yield offset, key.decode(), value.decode()
        offset += len(line) + 1


def _key(value: str) -> bytes:
    if len(value) != 2 * KEY_BYTES or re.fullmatch("[0-9a-fA-F]*", value) is None:
        raise DecodeError(f"{2 * KEY_BYTES} hexadecimal digits")
    return bytes.fromhex(value)


def _number(largest: int) -> Callable[[str], int]:
    def decode(value: str) -> int:
        if re.fullmatch("[0-9]{1,10}", value) is None or int(value) > largest:
            raise DecodeError(f"a number up to {largest}")
        return int(value)

    return decode


def _true(value: str) -> bool:
    if value != "true":
        raise DecodeError("true")
    return True


def _one(value: str) -> None:
    if value != "1":
        raise DecodeError("version 1, the only one that there is")


def _endpoint(value: str) -> str:
    if re.fullmatch(r"[0-9.]{7,15}:[0-9]{1,5}|\[[0-9a-fA-F:.]{2,45}(%[\w.-]{1,15})?\]:[0-9]{1,5}", value) is None:
        raise DecodeError("an address and a port, such as 192.0.2.1:51820 or [2001:db8::1]:51820")
    return value


def _allowed_ip(value: str) -> AllowedIpChange:
    prefix = value.removeprefix("-")
    try:
        # Other spellings of a mask, such as /255.0.0.0, are not the protocol's.
        if re.fullmatch(r"[0-9a-fA-F:.]+(/[0-9]{1,3})?", prefix) is None:
            raise ValueError
        return AllowedIpChange(network=ip_network(prefix, strict=False), remove=prefix != value)
    except ValueError:
        raise DecodeError("a prefix such as 10.7.0.2/32 or fd07::/64") from None


_Decode = Callable[[str], Any]

_OF_DEVICE: dict[str, _Decode] = {
    "private_key": _key,
    "listen_port": _number(0xFFFF),
    "fwmark": _number(0xFFFFFFFF),
    "replace_peers": _true,
}
"""Lines before the first peer: key, and what makes the attribute of `DeviceChange` with that name from the value."""

_OF_PEER: dict[str, _Decode] = {
    "remove": _true,
    "update_only": _true,
    "preshared_key": _key,
    "endpoint": _endpoint,
    "persistent_keepalive_interval": _number(0xFFFF),
    "replace_allowed_ips": _true,
    "allowed_ip": _allowed_ip,
    "protocol_version": _one,
}
"""Lines after a `public_key`."""


def _decode_set(lines: Iterator[tuple[int, str, str]]) -> DeviceChange:
    change = DeviceChange()
    peer: PeerChange | None = None
    for offset, key, value in lines:
        if key == "public_key":
            peer = PeerChange(public_key=_decoded(_key, value, offset))
            change.peers.append(peer)
            if len(change.peers) > MAX_PEERS:
                raise DecodeError(f"at most {MAX_PEERS} peers", offset=offset)
            continue
        decode = (_OF_DEVICE if peer is None else _OF_PEER).get(key)
        if decode is None:
            raise DecodeError("a key of the protocol, in its place", offset=offset)
        decoded = _decoded(decode, value, offset)
        if peer is None:
            setattr(change, key, decoded)
        else:
            _set(peer, key, decoded)
    return change


def _set(peer: PeerChange, key: str, value: Any) -> None:
    match key:
        case "allowed_ip":
            peer.allowed_ips.append(value)
        case "persistent_keepalive_interval":
            peer.keepalive_s = value
        case "protocol_version":
            pass
        case "replace_allowed_ips":
            # What was named before it is taken away as well.
            peer.replace_allowed_ips = True
            peer.allowed_ips.clear()
        case _:
            setattr(peer, key, value)


def _decoded(decode: _Decode, value: str, offset: int) -> Any:
    try:
        return decode(value)
    except DecodeError as error:
        # The value is not repeated: it may be a secret.
        raise DecodeError(error.expected, offset=offset) from None
