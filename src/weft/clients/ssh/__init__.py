"""SSH, both sides, by asyncssh."""
