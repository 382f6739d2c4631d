"""What programs speak over the network: TLS, HTTP, SSH and the like, by well-kept libraries over a node's streams.

Each takes the network as an argument, and asks of it what `network.py` says. What it stands on may be missing: they are
extras, and `extras.py` says what to install.
"""
