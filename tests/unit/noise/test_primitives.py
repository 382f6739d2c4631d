"""The primitives against the vectors of their specifications."""

from __future__ import annotations

from hashlib import blake2s

import pytest
from cryptography.exceptions import InvalidTag

from weft.errors import UsageError
from weft.noise.primitives import (
    StaticKey,
    hash_of,
    hchacha20,
    kdf,
    mac_of,
    open_once,
    seal_once,
    xchacha20poly1305,
)

SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def test_x25519_of_rfc_7748_section_6_1_agrees() -> None:
    alice = StaticKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = StaticKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert alice.exchange(bob.public) == bob.exchange(alice.public)
    assert alice.exchange(bob.public).hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_of_rfc_7748_section_5_2_agrees(scalar: str, point: str, product: str) -> None:
    assert StaticKey(bytes.fromhex(scalar)).exchange(bytes.fromhex(point)).hex() == product


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_shared_secret_of_zeros_is_refused(point: str) -> None:
    with pytest.raises(ValueError, match="shared key"):
        StaticKey(bytes(range(32))).exchange(bytes.fromhex(point))


def test_a_private_key_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match="32 bytes, not 31"):
        StaticKey(bytes(31))


def test_sealing_once_is_chacha20poly1305_with_a_zero_nonce() -> None:
    # RFC 8439, section A.1: the key stream of block 1 for a key and a nonce of zeros.
    sealed = seal_once(bytes(32), bytes(64), b"")
    assert sealed[:64].hex() == (
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    assert open_once(bytes(32), sealed, b"") == bytes(64)


def test_what_was_changed_does_not_open() -> None:
    sealed = bytearray(seal_once(bytes(32), b"plain", b"ad"))
    sealed[-1] ^= 1
    with pytest.raises(InvalidTag):
        open_once(bytes(32), bytes(sealed), b"ad")


def test_blake2s_of_rfc_7693_agrees() -> None:
    assert hash_of(b"a", b"bc").hex() == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"


def test_keyed_blake2s_agrees_with_its_reference_vectors() -> None:
    key = bytes(range(32))
    assert blake2s(b"", key=key).hexdigest() == "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49"
    assert blake2s(bytes(1), key=key).hexdigest() == "40d15fee7c328830166ac3f918650f807e7e01e177258cdc0a39b11f598066f1"
    assert mac_of(key, bytes(1)) == blake2s(bytes(1), key=key, digest_size=16).digest()


def test_blake2s_passes_the_self_test_of_rfc_7693_appendix_e() -> None:
    def sequence(length: int, seed: int) -> bytes:
        a, b = 0xDEAD4BAD * seed & 0xFFFFFFFF, 1
        out = bytearray()
        for _ in range(length):
            a, b = b, (a + b) & 0xFFFFFFFF
            out.append(b >> 24)
        return bytes(out)

    total = blake2s()
    for digest_size in (16, 20, 28, 32):
        for length in (0, 3, 64, 65, 255, 1024):
            data = sequence(length, length)
            total.update(blake2s(data, digest_size=digest_size).digest())
            key = sequence(digest_size, digest_size)
            total.update(blake2s(data, key=key, digest_size=digest_size).digest())
    assert total.hexdigest() == "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe"


def test_kdf_is_hkdf_and_gives_prefixes() -> None:
    three = kdf(bytes(32), b"input", 3)
    assert kdf(bytes(32), b"input", 1) == three[:1]
    assert kdf(bytes(32), b"input", 2) == three[:2]
    assert len({*three}) == 3


def test_kdf_agrees_with_hkdf_of_cryptography() -> None:
    from cryptography.hazmat.primitives.hashes import BLAKE2s
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    whole = HKDF(BLAKE2s(32), 96, salt=bytes(range(32)), info=b"").derive(b"input")
    assert b"".join(kdf(bytes(range(32)), b"input", 3)) == whole


def test_hchacha20_of_the_xchacha_draft_section_2_2_1_agrees() -> None:
    subkey = hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927"))
    assert subkey.hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


def test_xchacha20poly1305_of_the_xchacha_draft_appendix_a_1_agrees() -> None:
    key = bytes(range(0x80, 0xA0))
    nonce = bytes(range(0x40, 0x58))
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    cipher = xchacha20poly1305(key, nonce[:16])
    sealed = cipher.encrypt(bytes(4) + nonce[16:], SUNSCREEN, associated)
    assert sealed.hex() == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
        "c0875924c1c7987947deafd8780acf49"
    )
