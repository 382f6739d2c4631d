"""The command `weft`: one file per command group."""
