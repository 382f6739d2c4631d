"""weft: programs, machines and browsers in one encrypted network, peer to peer."""

__version__ = "0.1.0"
