"""A proxy into the network: SOCKS5 and HTTP on one port."""
