"""The HTTP API of the daemon, and its client."""
