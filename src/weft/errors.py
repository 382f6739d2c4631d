"""Every error that weft raises on its own account.

A fault of the network never raises out of a state machine: it is counted with a reason. Exceptions are for the caller
(`UsageError`, `ConfigError`), for an operation that the other side or the transport made impossible (`PeerError`,
`TransportError`), and for decoders (`DecodeError`), whose callers turn them into counted drops.
"""


class WeftError(Exception):
    """The base of all errors of this package."""


class UsageError(WeftError):
    """The caller broke a rule: a wrong argument, an unknown name, an operation in the wrong state."""


class ConfigError(WeftError):
    """A file that a person edits, or that the node keeps, can't be used.

    Attributes:
        file: path of the file, as the person would write it.
        key: dotted name of the key that is wrong, or "" where it is the file as a whole.
    """

    def __init__(self, message: str, *, file: str = "", key: str = "") -> None:
        where = ": ".join(part for part in (file, key) if part)
        super().__init__(f"{where}: {message}" if where else message)
        self.file = file
        self.key = key


class PeerError(WeftError):
    """The other side made the operation fail: it refused, vanished or broke the protocol."""


class TransportError(WeftError):
    """What carries the bytes failed."""


class Closed(TransportError):  # noqa: N818 - the field's own names for the two ends of a transport
    """The transport was closed by this side before the operation."""


class Broken(TransportError):  # noqa: N818
    """The transport failed under the operation."""


class DecodeError(WeftError):
    """Bytes from the network, or text from a person, do not have the format they must have.

    Attributes:
        offset: where in the input the decoder stopped, in bytes or characters.
        expected: what should have been there.
    """

    def __init__(self, expected: str, *, offset: int = 0) -> None:
        super().__init__(f"expected {expected} at offset {offset}")
        self.offset = offset
        self.expected = expected
