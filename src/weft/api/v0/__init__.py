"""Version 0 of the HTTP API: one file per group of paths, with what goes in, what comes out and who does it."""
