"""TLS: contexts, what a handshake agreed on, certificates in words."""
