import copy
import os
import pickle
from base64 import b64decode
from ipaddress import IPv6Address

import cid
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from weft import identity
from weft.errors import DecodeError, UsageError
from weft.identity import D, Identity, P, PeerId

# Made with `generate(os.urandom)` once; nothing but these tests uses them.
SEEDS = tuple(
    bytes.fromhex(seed)
    for seed in (
        "5841fc1bd6c13fd324740fcc560383c17e1bd9953724af96ffa90ba35f4ab96b",
        "8a785d4538baa7922830707673ff63f7b3cdb7cdf3940911303b1320da4c25e7",
        "970261f152af495228317ca23048ce144faf8f14c127ef0bd3b15db46abd0e4c",
        "e95dec4a45268d8ba3d7f752b470936f7c4cc7229c901419bd619e1a9bf26cea",
        "d9d21471ed950cbfd9e84af600a975252ceddfa33c04f3472f3be679900ac235",
        "5cb4b67e8374e9c170a1192abe14072374927ae81a575821a06ebc44fec244a5",
    )
)
PEERS = tuple(Identity(seed).peer_id for seed in SEEDS)

# RFC 8032 section 7.1, tests 1 to 3 and the one named SHA(abc): secret key, public key, message, signature.
RFC_8032 = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
)


def edwards_double(x: int, y: int) -> tuple[int, int]:
    """The point added to itself, by the complete addition law of RFC 8032 section 5.1.4."""
    xx, yy, product = x * x, y * y, D * x * x * y * y
    return 2 * x * y * pow(1 + product, -1, P) % P, (yy + xx) * pow(1 - product, -1, P) % P


def edwards_x(y: int) -> int | None:
    """An x of the point with this y, if there is one (RFC 8032 section 5.1.3)."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == square else None


def has_small_order(y: int) -> bool:
    x = edwards_x(y)
    assert x is not None
    point = (x, y)
    for _ in range(3):
        point = edwards_double(*point)
    return point == (0, 1)


def any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys from elsewhere have their addresses anywhere; the rule for addresses has its own tests."""
    monkeypatch.setattr(identity, "is_usable_address", lambda _: True)


# --- keys and signatures ---


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_vector_gives_the_same_public_key(
    secret: str, public: str, message: str, signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_address(monkeypatch)
    key = bytes.fromhex(public)
    if key[31] & 0x80:
        with pytest.raises(DecodeError, match="sign bit"):
            Identity(bytes.fromhex(secret))
    else:
        assert Identity(bytes.fromhex(secret)).peer_id.public_key == key


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032[:3])
def test_rfc_8032_vector_signed_without_a_context_gives_the_same_signature(
    secret: str, public: str, message: str, signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_address(monkeypatch)
    monkeypatch.setattr(identity, "_in_context", lambda _, message: message)
    made = Identity(bytes.fromhex(secret)).sign(b"none", bytes.fromhex(message))
    assert made.hex() == signature
    assert identity.verify(bytes.fromhex(public), b"none", bytes.fromhex(message), made)


def test_signature_covers_context_zero_byte_and_message() -> None:
    me = Identity(SEEDS[0])
    assert me.sign(b"weft pong", b"abc") == Ed25519PrivateKey.from_private_bytes(SEEDS[0]).sign(b"weft pong\0abc")


@given(st.sampled_from(SEEDS), st.binary(min_size=1, max_size=20).filter(lambda c: 0 not in c), st.binary(max_size=99))
def test_signature_is_valid_for_its_key_context_and_message_alone(seed: bytes, context: bytes, message: bytes) -> None:
    me, other = Identity(seed), PEERS[0] if seed != SEEDS[0] else PEERS[1]
    signature = me.sign(context, message)
    assert identity.verify(me.peer_id.public_key, context, message, signature)
    assert not identity.verify(other.public_key, context, message, signature)
    assert not identity.verify(me.peer_id.public_key, context + b"x", message, signature)
    assert not identity.verify(me.peer_id.public_key, context, message + b"\0", signature)
    assert not identity.verify(me.peer_id.public_key, context, message, signature[:-1])
    assert not identity.verify(me.peer_id.public_key, context, message, b"")


def test_signature_with_s_above_the_group_order_is_refused() -> None:
    me = Identity(SEEDS[0])
    signature = me.sign(b"weft pong", b"abc")
    order = 2**252 + 27742317777372353535851937790883648493
    larger = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not identity.verify(me.peer_id.public_key, b"weft pong", b"abc", signature[:32] + larger)


@pytest.mark.parametrize("context", [b"", b"weft\0pong", b"weft pong\0"])
def test_context_that_is_empty_or_has_a_zero_byte_is_a_usage_error(context: bytes) -> None:
    with pytest.raises(UsageError):
        Identity(SEEDS[0]).sign(context, b"")
    with pytest.raises(UsageError):
        identity.verify(PEERS[0].public_key, context, b"", bytes(64))


@given(st.binary(max_size=40), st.binary(max_size=70))
def test_random_key_and_signature_verify_nothing_and_raise_nothing(key: bytes, signature: bytes) -> None:
    assert not identity.verify(key, b"weft pong", b"", signature)


@pytest.mark.parametrize("y", sorted(identity.SMALL_ORDER))
def test_key_of_small_order_verifies_no_signature(y: int) -> None:
    # With the neutral element as R and S = 0, a key of small order would "sign" about every eighth message at least.
    forged = (1).to_bytes(32, "little") + bytes(32)
    key = y.to_bytes(32, "little")
    assert not any(identity.verify(key, b"weft pong", bytes([n]), forged) for n in range(64))


# --- which public keys are valid ---


def test_small_order_table_is_exactly_the_points_that_three_doublings_annihilate() -> None:
    assert all(has_small_order(y) for y in identity.SMALL_ORDER)
    assert len(identity.SMALL_ORDER) == 5
    # Eight points: y = 1 and y = -1 have one x each, the other three have two.
    assert sum(1 if edwards_x(y) == 0 else 2 for y in identity.SMALL_ORDER) == 8


@pytest.mark.parametrize("y", sorted(identity.SMALL_ORDER))
def test_public_key_of_small_order_is_refused(y: int) -> None:
    with pytest.raises(DecodeError, match="small order"):
        PeerId(y.to_bytes(32, "little"))


@pytest.mark.parametrize("y", [P, P + 1, P + 2, P + 18])
def test_public_key_that_is_not_canonical_is_refused(y: int) -> None:
    with pytest.raises(DecodeError, match="canonical"):
        PeerId(y.to_bytes(32, "little"))


def test_public_key_with_sign_bit_is_refused() -> None:
    key = bytearray(PEERS[0].public_key)
    key[31] |= 0x80
    with pytest.raises(DecodeError, match="sign bit"):
        PeerId(bytes(key))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_public_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DecodeError, match="32 bytes"):
        PeerId(bytes(length))


@given(st.integers(min_value=2, max_value=P - 2).filter(lambda y: y not in identity.SMALL_ORDER))
def test_public_key_is_taken_only_if_it_is_on_the_curve(y: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        any_address(monkeypatch)
        key = y.to_bytes(32, "little")
        if edwards_x(y) is None:
            with pytest.raises(DecodeError, match="point of the curve"):
                PeerId(key)
        else:
            assert PeerId(key).public_key == key


def test_public_key_whose_address_is_elsewhere_is_refused() -> None:
    with pytest.raises(DecodeError, match="fc00::/8"):
        PeerId(bytes.fromhex(RFC_8032[0][1]))


# --- the Noise key and the address ---


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=200)
def test_noise_private_key_times_base_point_is_the_converted_public_key(seed: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        any_address(monkeypatch)
        try:
            me = Identity(seed)
        except DecodeError:
            public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
            assert public[31] & 0x80
            return
        private = X25519PrivateKey.from_private_bytes(me.noise_private)
        assert private.public_key().public_bytes_raw() == me.noise_public


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_private_key_is_clamped(seed: bytes) -> None:
    private = Identity(seed).noise_private
    assert len(private) == 32
    assert private[0] & 7 == 0
    assert private[31] & 0xC0 == 0x40


def test_address_of_the_check_key_is_the_one_in_the_wire_document() -> None:
    private = X25519PrivateKey.from_private_bytes(b64decode("loUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu0="))
    address = identity.address_of(private.public_key().public_bytes_raw())
    assert str(IPv6Address(address)) == "fc89:54a1:b598:365f:357:d6a:b108:db7b"
    assert identity.is_usable_address(address)


@pytest.mark.parametrize(
    ("address", "usable"),
    [("fc00::1", False), ("fc00:0:0:1::", True), ("fcff::", True), ("fd00::1", False), ("2001:db8::", False)],
)
def test_address_is_usable_only_in_fc00_8_outside_fc00_64(address: str, usable: bool) -> None:
    assert identity.is_usable_address(IPv6Address(address).packed) is usable


# --- generation ---


def test_generated_identity_is_valid_and_loads_again_from_its_seed() -> None:
    made = identity.generate(os.urandom)
    assert made.address[0] == 0xFC
    assert not made.peer_id.public_key[31] & 0x80
    assert Identity(made.seed).peer_id == made.peer_id


def test_generation_takes_the_first_usable_seed() -> None:
    seeds = iter([bytes.fromhex(RFC_8032[0][0]), bytes.fromhex(RFC_8032[3][0]), SEEDS[2], SEEDS[1]])
    assert identity.generate(lambda _: next(seeds)).seed == SEEDS[2]


def test_generation_without_randomness_ends_in_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "TRIES", 100)
    with pytest.raises(UsageError, match="random"):
        identity.generate(bytes)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        Identity(bytes(length))


# --- secrets ---


def test_identity_shows_its_peer_id_and_no_secret() -> None:
    me = Identity(SEEDS[0])
    shown = f"{me!r} {me}"
    assert str(me.peer_id) in shown
    for secret in (me.seed, me.noise_private):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_identity_is_neither_pickled_nor_copied() -> None:
    me = Identity(SEEDS[0])
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            attempt(me)


# --- peer ids ---


@pytest.mark.parametrize("peer", PEERS)
def test_peer_id_in_base36_is_what_py_cid_makes_of_the_multihash(peer: PeerId) -> None:
    theirs = cid.CIDv1("libp2p-key", peer.to_bytes())
    assert theirs.encode("base36").decode() == peer.to_dns_label()
    assert cid.make_cid(peer.to_dns_label()).multihash == peer.to_bytes()


@pytest.mark.parametrize("peer", PEERS)
def test_peer_id_forms_have_their_known_shapes(peer: PeerId) -> None:
    assert str(peer).startswith("12D3KooW")
    assert len(str(peer)) == 52
    assert peer.to_dns_label().startswith("k51")
    assert len(peer.to_dns_label()) == 62
    assert peer.to_bytes() == bytes.fromhex("002408011220") + peer.public_key


@pytest.mark.parametrize("peer", PEERS)
def test_peer_id_in_any_form_decodes_to_an_equal_value(peer: PeerId) -> None:
    label = peer.to_dns_label()
    mixed = "".join(c.upper() if n % 2 else c for n, c in enumerate(label))
    again = [PeerId.from_bytes(peer.to_bytes()), *map(PeerId.from_text, (str(peer), label, label.upper(), mixed))]
    assert {peer} == set(again)
    assert all(other.address == peer.address and other.noise_public_key == peer.noise_public_key for other in again)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12D3KooW",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "bafzaajaiaejcbj4vqhhmf6jkzy3xz4nbhl6ffrzaxs5i4rlhcvxzqjpqbqvpuxxc",
        "1" * 52,
        "z" * 52,
        "0" * 52,
        "k" + "0" * 61,
        "k" + "z" * 61,
        "k" + "-" * 61,
    ],
)
def test_text_that_is_no_ed25519_peer_id_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        PeerId.from_text(text)


def test_kelvin_sign_is_no_k_in_a_peer_id() -> None:
    label = PEERS[0].to_dns_label()
    assert "k" in label[1:]
    with pytest.raises(DecodeError):
        PeerId.from_text(label[0] + label[1:].replace("k", "\N{KELVIN SIGN}"))


@given(st.text(max_size=70) | st.text(alphabet=identity.BASE58BTC, min_size=52, max_size=52))
def test_random_text_as_peer_id_raises_decode_errors_only(text: str) -> None:
    with pytest.raises(DecodeError):
        PeerId.from_text(text)


@given(st.sampled_from(PEERS), st.integers(0, 51), st.sampled_from(identity.BASE58BTC))
def test_peer_id_with_one_character_changed_is_another_or_refused(peer: PeerId, index: int, character: str) -> None:
    text = str(peer)
    changed = text[:index] + character + text[index + 1 :]
    try:
        assert str(PeerId.from_text(changed)) == changed
    except DecodeError:
        assert changed != text


@given(st.binary(max_size=60))
def test_random_bytes_as_peer_id_raise_decode_errors_only(data: bytes) -> None:
    with pytest.raises(DecodeError):
        PeerId.from_bytes(data)


# --- keys of stock WireGuard ---


@given(st.binary(min_size=32, max_size=32))
def test_wireguard_key_decodes_to_what_was_encoded(key: bytes) -> None:
    text = identity.encode_wireguard_key(key)
    assert len(text) == 44
    assert identity.decode_wireguard_key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "loUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu0",
        "loUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu1=",
        "loUFLqeJND3KizotkvrQf8vA_i0DeLCfCylpBgpnpu0=",
        "loUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu0=\n",
        " loUFLqeJND3KizotkvrQf8vA/i0DeLCfCylpBgpnpu0=",
        "AAAA",
        "ä" * 44,
    ],
)
def test_text_that_wg_would_not_print_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        identity.decode_wireguard_key(text)
    assert len(text) < 2 or text not in str(caught.value)


@given(st.text(max_size=60))
def test_random_text_as_wireguard_key_raises_decode_errors_only(text: str) -> None:
    with pytest.raises(DecodeError):
        identity.decode_wireguard_key(text)


def test_private_key_that_is_made_has_an_address_and_is_clamped() -> None:
    private = identity.generate_private_key(os.urandom)
    assert private == identity._clamped(private)
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert identity.noise_public_of(private) == public
    assert identity.is_usable_address(identity.address_of(public))


def test_bytes_that_are_not_random_give_no_private_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "TRIES", 3)
    with pytest.raises(UsageError, match="is it random"):
        identity.generate_private_key(bytes)
