"""A folder over HTTP."""
