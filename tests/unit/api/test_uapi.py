"""The text of the userspace protocol: what `wg` writes, and whatever else may come."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.api import uapi
from weft.api.uapi import decode_request, encode_device, encode_errno
from weft.engine.device import AllowedIpChange, Device, DeviceChange, DevicePeer, PeerChange
from weft.errors import DecodeError

KEY, OTHER, SECRET = (bytes([number]) * 32 for number in (1, 2, 3))

# The example of the protocol's document, shortened.
REQUEST = f"""set=1
private_key={SECRET.hex()}
fwmark=0
listen_port=12912
replace_peers=true
public_key={KEY.hex()}
preshared_key={SECRET.hex()}
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33%2]:51820
public_key={OTHER.hex()}
update_only=true
persistent_keepalive_interval=111
allowed_ip=-192.168.4.6/24
allowed_ip=fd07::/64
protocol_version=1
public_key={SECRET.hex()}
remove=true

"""


def test_example_of_the_document_is_read() -> None:
    assert decode_request(REQUEST.encode()) == DeviceChange(
        private_key=SECRET,
        listen_port=12912,
        fwmark=0,
        replace_peers=True,
        peers=[
            PeerChange(
                public_key=KEY,
                preshared_key=SECRET,
                replace_allowed_ips=True,
                allowed_ips=[AllowedIpChange(network=ip_network("192.168.4.4/32"))],
                endpoint="[abcd:23::33%2]:51820",
            ),
            PeerChange(
                public_key=OTHER,
                update_only=True,
                keepalive_s=111,
                allowed_ips=[
                    AllowedIpChange(network=ip_network("192.168.4.0/24"), remove=True),
                    AllowedIpChange(network=ip_network("fd07::/64")),
                ],
            ),
            PeerChange(public_key=SECRET, remove=True),
        ],
    )


def test_get_is_read() -> None:
    assert decode_request(b"get=1\n\n") is None


@pytest.mark.parametrize(
    ("request_", "offset"),
    [
        (b"", 0),
        (b"\n", 0),
        (b"get=2\n\n", 0),
        (b"hello\n\n", 0),
        (b"get=1\nlisten_port=1\n\n", 6),
        (b"set=1\nlisten_port=65536\n\n", 6),
        (b"set=1\nlisten_port=-1\n\n", 6),
        (b"set=1\nlisten_port=\xd9\xa1\n\n", 6),
        (b"set=1\nreplace_peers=false\n\n", 6),
        (b"set=1\nallowed_ip=10.0.0.0/8\n\n", 6),
        (b"set=1\nendpoint=192.0.2.1:1\n\n", 6),
        (b"set=1\nprivate_key=" + 63 * b"0" + b"\n\n", 6),
        (b"set=1\nprivate_key=" + 64 * b"x" + b"\n\n", 6),
        (b"set=1\n" + 257 * b"x", 6),
        *(
            (b"set=1\npublic_key=" + KEY.hex().encode() + b"\n" + line + b"\n\n", 6 + 76)
            for line in (
                b"listen_port=1",
                b"remove=1",
                b"unknown=1",
                b"last_handshake_time_sec=1",
                b"allowed_ip=10.0.0.0/33",
                b"allowed_ip=10.0.0.0/255.0.0.0",
                b"allowed_ip=+10.0.0.0/8",
                b"endpoint=host.example.org:1",
                b"endpoint=192.0.2.1",
                b"persistent_keepalive_interval=70000",
                b"protocol_version=2",
            )
        ),
    ],
)
def test_what_the_protocol_does_not_have_is_refused(request_: bytes, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_request(request_)
    assert caught.value.offset == offset


def test_secret_is_in_no_error_and_no_repr() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_request(f"set=1\nprivate_key={SECRET.hex()}0\n\n".encode())
    assert SECRET.hex() not in str(caught.value)
    change = decode_request(REQUEST.rpartition("public_key=")[0].encode())
    assert repr(SECRET) not in repr(change)
    device = Device(
        private_key=SECRET, listen_port=1, fwmark=0, peers=(DevicePeer(public_key=KEY, preshared_key=SECRET),)
    )
    assert repr(SECRET) not in repr(device)


def test_too_many_peers_and_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi, "MAX_PEERS", 3)
    line = f"public_key={KEY.hex()}\n"
    assert decode_request(f"set=1\n{3 * line}".encode())
    with pytest.raises(DecodeError, match="at most 3 peers"):
        decode_request(f"set=1\n{4 * line}".encode())
    monkeypatch.setattr(uapi, "MAX_REQUEST_BYTES", 100)
    with pytest.raises(DecodeError, match="at most 100 bytes"):
        decode_request(f"set=1\n{3 * line}".encode())


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_a_decode_error(data: bytes) -> None:
    for candidate in (data, b"set=1\n" + data, b"set=1\npublic_key=" + KEY.hex().encode() + b"\n" + data):
        with contextlib.suppress(DecodeError):
            decode_request(candidate)


KEYS = st.binary(min_size=32, max_size=32)
NETWORKS = st.one_of(
    st.builds(
        lambda value, bits: ip_network((value, bits), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
    ),
    st.builds(
        lambda value, bits: ip_network((value, bits), strict=False), st.integers(2**64, 2**128 - 1), st.integers(0, 128)
    ),
)
LINES = st.lists(
    st.one_of(
        KEYS.map(lambda key: f"public_key={key.hex()}"),
        KEYS.map(lambda key: f"preshared_key={key.hex()}"),
        NETWORKS.map(lambda network: f"allowed_ip={network}"),
        NETWORKS.map(lambda network: f"allowed_ip=-{network}"),
        st.integers(0, 0xFFFF).map(lambda number: f"persistent_keepalive_interval={number}"),
        st.sampled_from(["remove=true", "update_only=true", "replace_allowed_ips=true", "endpoint=192.0.2.1:51820"]),
    )
)


@given(LINES)
def test_request_is_read_line_by_line(lines: list[str]) -> None:
    lines.insert(0, f"public_key={KEY.hex()}")
    change = decode_request("\n".join(["set=1", *lines, "", ""]).encode())
    assert change is not None
    assert [peer.public_key.hex() for peer in change.peers] == [
        line.partition("=")[2] for line in lines if line.startswith("public_key=")
    ]
    told = iter(lines)
    next(told)
    for peer in change.peers:
        expected = PeerChange(public_key=peer.public_key)
        for line in told:
            key, _, value = line.partition("=")
            match key:
                case "public_key":
                    break
                case "preshared_key":
                    expected.preshared_key = bytes.fromhex(value)
                case "allowed_ip":
                    network = ip_network(value.lstrip("-"))
                    expected.allowed_ips.append(AllowedIpChange(network=network, remove=value.startswith("-")))
                case "persistent_keepalive_interval":
                    expected.keepalive_s = int(value)
                case "replace_allowed_ips":
                    expected.replace_allowed_ips, expected.allowed_ips = True, []
                case "endpoint":
                    expected.endpoint = value
                case _:
                    setattr(expected, key, True)
        assert peer == expected


def test_device_is_written_as_wireguard_go_writes_it() -> None:
    first = DevicePeer(
        public_key=KEY,
        preshared_key=SECRET,
        endpoint="[2001:db8::1]:1312",
        handshake_at_ns=1_700_000_000_000_000_007,
        tx_bytes=5,
        rx_bytes=6,
        keepalive_s=25,
        allowed_ips=(ip_network("fc00::1/128"), ip_network("10.0.0.0/8")),
    )
    device = Device(private_key=SECRET, listen_port=1312, fwmark=7, peers=(first, DevicePeer(public_key=OTHER)))
    assert encode_device(device).decode().splitlines() == [
        f"private_key={SECRET.hex()}",
        "listen_port=1312",
        "fwmark=7",
        f"public_key={KEY.hex()}",
        f"preshared_key={SECRET.hex()}",
        "protocol_version=1",
        "endpoint=[2001:db8::1]:1312",
        "last_handshake_time_sec=1700000000",
        "last_handshake_time_nsec=7",
        "tx_bytes=5",
        "rx_bytes=6",
        "persistent_keepalive_interval=25",
        "allowed_ip=fc00::1/128",
        "allowed_ip=10.0.0.0/8",
        f"public_key={OTHER.hex()}",
        f"preshared_key={64 * '0'}",
        "protocol_version=1",
        "last_handshake_time_sec=0",
        "last_handshake_time_nsec=0",
        "tx_bytes=0",
        "rx_bytes=0",
        "persistent_keepalive_interval=0",
    ]
    assert (encode_errno(0), encode_errno(22)) == (b"errno=0\n\n", b"errno=-22\n\n")
