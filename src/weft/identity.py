"""Who a participant is: one Ed25519 key, and everything that follows from it.

    seed ──SHA-512, clamp──> Noise private key (X25519)
     │                             │
     v                             v
    Ed25519 public key ──────> Noise public key ──BLAKE2s twice──> address in fc00::/8
     │
     v
    peer id (libp2p)

Everybody who knows the peer id can compute the Noise key and the address; nobody needs a directory. A Noise key belongs
to one peer id only, because a valid key has its sign bit clear.

Sources: RFC 8032 section 5.1 (Ed25519), RFC 7748 sections 4.1 and 5 (X25519 and the birational map), the libp2p peer id
specification, the CID and multibase specifications; the address rule is cjdns's shape with BLAKE2s.

Not done here: where the seed is kept (`weft.io.store`), and the handshake that proves possession of it (`weft.noise`).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2s, sha512
from typing import NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from weft.errors import DecodeError, UsageError

KEY_BYTES = 32
SIGNATURE_BYTES = 64
ADDRESS_BYTES = 16

BASE58BTC = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"

MULTIHASH_PREFIX = bytes.fromhex("0024 08011220")
"""Identity multihash (0x00) of 36 bytes: the libp2p protobuf of an Ed25519 key, up to the key itself."""
CID_PREFIX = bytes.fromhex("0172")
"""CIDv1 with the codec `libp2p-key`; the multihash follows."""
PEER_ID_BYTES = len(MULTIHASH_PREFIX) + KEY_BYTES
PEER_ID_CHARACTERS = 52
DNS_LABEL_CHARACTERS = 62
PEER_ID_SHAPE = f"an Ed25519 peer id (12D3KooW… of {PEER_ID_CHARACTERS} characters, or k51… of {DNS_LABEL_CHARACTERS})"

P = 2**255 - 19
"""The prime of curve25519's field."""
D = -121665 * pow(121666, -1, P) % P
"""The constant d of edwards25519 (RFC 8032 section 5.1)."""
ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = frozenset({0, 1, P - 1, ORDER_8, P - ORDER_8})
"""The y coordinates of the eight points whose order divides 8."""

TRIES = 1 << 15
"""Seeds that are looked at. One in 512 is usable, so sound randomness fails here once in 2^92 calls."""


@dataclass(frozen=True, slots=True)
class PeerId:
    """The name of a weft peer: its Ed25519 public key, known to be usable.

    Whoever holds one may rely on it: the key is on the curve, canonical, not of small order, has its sign bit clear,
    and its address is in fc00::/8. The text form is libp2p's, so that other tools can show and compare it.

    Layout of the binary form, 38 bytes:

        0   2   identity multihash: code 0x00, length 0x24
        2   4   protobuf: field 1 (type) = 1 Ed25519; field 2 (data) of 32 bytes
        6   32  the key

    Args:
        public_key: 32 bytes.

    Raises:
        DecodeError: The key is not a valid one; a peer chose it, so this is no programming error.
    """

    public_key: bytes
    noise_public_key: bytes = field(init=False, compare=False)
    """The X25519 public key, 32 bytes: what WireGuard calls the peer's public key."""
    address: bytes = field(init=False, compare=False)
    """The peer's address in fc00::/8, 16 bytes."""

    def __post_init__(self) -> None:
        noise_public_key = _montgomery(_checked_y(self.public_key, on_curve=True))
        address = address_of(noise_public_key)
        if not is_usable_address(address):
            raise DecodeError("a key whose address is in fc00::/8")
        object.__setattr__(self, "noise_public_key", noise_public_key)
        object.__setattr__(self, "address", address)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode the binary form, as it stands in a binary multiaddr.

        Args:
            data: exactly 38 bytes.

        Raises:
            DecodeError: It is not the peer id of a valid Ed25519 key.
        """
        if len(data) != PEER_ID_BYTES or not data.startswith(MULTIHASH_PREFIX):
            raise DecodeError(f"the {PEER_ID_BYTES} bytes of an Ed25519 peer id")
        return cls(bytes(data[len(MULTIHASH_PREFIX) :]))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Decode either text form: base58btc, or the CID in base36 in any case, since DNS does not keep the case.

        Raises:
            DecodeError: It is not the peer id of a valid Ed25519 key.
        """
        if len(text) == DNS_LABEL_CHARACTERS and text[0] in "kK" and text.isascii():
            data = _from_base(text[1:].lower(), BASE36, len(CID_PREFIX) + PEER_ID_BYTES, offset=1)
            if not data.startswith(CID_PREFIX):
                raise DecodeError(PEER_ID_SHAPE)
            return cls.from_bytes(data[len(CID_PREFIX) :])
        if len(text) == PEER_ID_CHARACTERS:
            return cls.from_bytes(_from_base(text, BASE58BTC, PEER_ID_BYTES, offset=0))
        raise DecodeError(PEER_ID_SHAPE)

    def to_bytes(self) -> bytes:
        """Encode the binary form, 38 bytes."""
        return MULTIHASH_PREFIX + self.public_key

    def to_dns_label(self) -> str:
        """Encode the CID in base36: 62 characters that fit a DNS label and survive a change of case."""
        return "k" + _to_base(CID_PREFIX + self.to_bytes(), BASE36)

    def __str__(self) -> str:
        return _in_base58btc(self.public_key)

    def __repr__(self) -> str:
        return f"PeerId({str(self)!r})"


class Identity:
    """A participant's own key: signs, and gives the Noise private key.

    It shows its peer id only, and refuses to be pickled or copied, so that the seed leaves the process through the key
    file alone.

    Args:
        seed: 32 bytes (RFC 8032 calls it the private key).

    Raises:
        DecodeError: The seed has another length, or its public key is none that a peer would accept.
    """

    __slots__ = ("_noise_private", "_seed", "_signing_key", "peer_id")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise DecodeError(f"a seed of {KEY_BYTES} bytes")
        self._seed = bytes(seed)
        self._signing_key = Ed25519PrivateKey.from_private_bytes(self._seed)
        self._noise_private = _clamped(sha512(self._seed).digest()[:KEY_BYTES])
        self.peer_id = PeerId(self._signing_key.public_key().public_bytes_raw())

    @property
    def seed(self) -> bytes:
        """The secret itself, for the key file only."""
        return self._seed

    @property
    def noise_private(self) -> bytes:
        """The X25519 private key, clamped, 32 bytes."""
        return self._noise_private

    @property
    def noise_public(self) -> bytes:
        """The X25519 public key, 32 bytes."""
        return self.peer_id.noise_public_key

    @property
    def address(self) -> bytes:
        """This node's address in fc00::/8, 16 bytes."""
        return self.peer_id.address

    def sign(self, context: bytes, message: bytes) -> bytes:
        """Sign a message for one purpose.

        Args:
            context: what the signature is for, such as `b"weft pong"`, without the zero byte that ends it in what is
                signed; no signature made for one context is valid in another.
            message: what is signed.

        Returns:
            64 bytes, valid for `context ‖ 00 ‖ message`.

        Raises:
            UsageError: The context is empty or contains a zero byte.
        """
        return self._signing_key.sign(_in_context(context, message))

    def __repr__(self) -> str:
        return f"Identity({str(self.peer_id)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity holds a secret: it is neither pickled nor copied")


def generate(random_bytes: Callable[[int], bytes]) -> Identity:
    """Make a new identity: draw seeds until the key is usable, which takes some 512 of them.

    Args:
        random_bytes: gives that many unpredictable bytes (`os.urandom`).

    Raises:
        UsageError: The bytes are not random: none of very many seeds was usable.
    """
    for _ in range(TRIES):
        seed = random_bytes(KEY_BYTES)
        public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        # Half of the keys end here, before the costlier conversion.
        if public_key[-1] & 0x80:
            continue
        if is_usable_address(address_of(_montgomery(int.from_bytes(public_key, "little")))):
            return Identity(seed)
    raise UsageError(f"random_bytes gave no usable seed in {TRIES} tries: is it random?")


def generate_private_key(random_bytes: Callable[[int], bytes]) -> bytes:
    """Make an X25519 private key for a stock WireGuard device whose public key has an address in fc00::/8.

    Any device takes such a key, and has its address in the network from then on. It takes some 256 tries.

    Args:
        random_bytes: gives that many unpredictable bytes (`os.urandom`).

    Returns:
        32 bytes, clamped as `wg genkey` does (RFC 7748 section 5).

    Raises:
        UsageError: The bytes are not random: none of very many keys was usable.
    """
    for _ in range(TRIES):
        private = _clamped(random_bytes(KEY_BYTES))
        if is_usable_address(address_of(noise_public_of(private))):
            return private
    raise UsageError(f"random_bytes gave no usable key in {TRIES} tries: is it random?")


def noise_public_of(private: bytes) -> bytes:
    """Compute the X25519 public key of a private one.

    Args:
        private: 32 bytes; X25519 clamps them itself.
    """
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def verify(public_key: bytes, context: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature of `Identity.sign` is that key's, for that context and message.

    Args:
        public_key: Ed25519, 32 bytes; of small order, not canonical or with its sign bit set it verifies nothing.
        context: as for `Identity.sign`.
        message: what was signed.
        signature: 64 bytes; anything else is no signature.

    Raises:
        UsageError: The context, which the caller chose, is empty or contains a zero byte.
    """
    signed = _in_context(context, message)
    try:
        _checked_y(public_key, on_curve=False)
        # A point that is not on the curve is refused by the library as it decompresses it.
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (DecodeError, InvalidSignature, ValueError):
        return False
    return True


def address_of(noise_public_key: bytes) -> bytes:
    """Compute the address that belongs to an X25519 public key.

    Args:
        noise_public_key: 32 bytes.

    Returns:
        16 bytes; an address to use only if `is_usable_address` says so, which a stock WireGuard key's rarely is.
    """
    return blake2s(blake2s(noise_public_key).digest()).digest()[ADDRESS_BYTES:]


def is_usable_address(address: bytes) -> bool:
    """Tell whether a node can have this address: in fc00::/8, but not in fc00::/64, which is each node's own services.

    Args:
        address: 16 bytes.
    """
    return address[0] == 0xFC and any(address[1:8])


def encode_wireguard_key(key: bytes) -> str:
    """Encode a 32-byte X25519 key, public, private or preshared, as `wg` prints it: 44 characters of base64."""
    return b64encode(key).decode()


def decode_wireguard_key(text: str) -> bytes:
    """Decode what `wg` prints.

    A peer that runs stock WireGuard, or a weft peer that has not told its Ed25519 key yet, is known by this.

    Returns:
        32 bytes. Any such bytes are a key: what is wrong with a key of small order, the handshake finds out.

    Raises:
        DecodeError: It is not exactly 32 bytes in canonical base64. The text is not repeated: it may be a secret.
    """
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or encode_wireguard_key(key) != text:
        raise DecodeError("a WireGuard key: 44 characters of base64, as `wg` prints it")
    return key


def _checked_y(public_key: bytes, *, on_curve: bool) -> int:
    """The y coordinate of a valid Ed25519 public key; the curve's equation costs a modular power, the rest is cheap."""
    if len(public_key) != KEY_BYTES:
        raise DecodeError(f"an Ed25519 public key of {KEY_BYTES} bytes")
    y = int.from_bytes(public_key, "little")
    if y >> 255:
        raise DecodeError("an Ed25519 public key with its sign bit clear", offset=KEY_BYTES - 1)
    if y >= P:
        raise DecodeError("an Ed25519 public key in canonical form (y < 2^255 - 19)")
    if y in SMALL_ORDER:
        raise DecodeError("an Ed25519 public key that is not of small order")
    # x^2 = (y^2 - 1) / (d y^2 + 1) has a root if numerator times denominator is a square (Euler's criterion).
    if on_curve and pow((y * y - 1) * (D * y * y + 1), (P - 1) // 2, P) != 1:
        raise DecodeError("an Ed25519 public key that is a point of the curve")
    return y


def _montgomery(y: int) -> bytes:
    """The X25519 public key of the point with this y, which is not 1 (RFC 7748 section 4.1)."""
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(KEY_BYTES, "little")


def _clamped(scalar: bytes) -> bytes:
    """The scalar as X25519 uses it (RFC 7748 section 5)."""
    return bytes([scalar[0] & 0xF8, *scalar[1:31], scalar[31] & 0x7F | 0x40])


def _in_context(context: bytes, message: bytes) -> bytes:
    if not context or 0 in context:
        raise UsageError("the context of a signature is a non-empty string without zero bytes")
    return context + b"\0" + message


@lru_cache(maxsize=4096)
def _in_base58btc(public_key: bytes) -> str:
    """The usual text of a peer id, which a node says again and again."""
    return _to_base(MULTIHASH_PREFIX + public_key, BASE58BTC)


def _to_base(data: bytes, alphabet: str) -> str:
    """Multibase's digits without its prefix: a number, after one zero digit for each leading zero byte."""
    number = int.from_bytes(data, "big")
    digits: list[str] = []
    while number:
        number, digit = divmod(number, len(alphabet))
        digits.append(alphabet[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return alphabet[0] * zeros + "".join(reversed(digits))


def _from_base(text: str, alphabet: str, size: int, *, offset: int) -> bytes:
    """The `size` bytes behind digits whose count the caller has checked."""
    number = 0
    for index, character in enumerate(text):
        digit = alphabet.find(character)
        if digit < 0:
            raise DecodeError(f"a character of base{len(alphabet)}", offset=offset + index)
        number = number * len(alphabet) + digit
    try:
        return number.to_bytes(size, "big")
    except OverflowError:
        raise DecodeError(PEER_ID_SHAPE) from None
