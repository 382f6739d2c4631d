"""TCP: one idea a file, joined in `connection.py` (one connection) and `tcp.py` (all of a host)."""
