"""What came of copying files, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """What came of it."""

    files: int = 0
    size_bytes: int = 0
    """Of the files that are whole now."""
    resumed_from_bytes: int = 0
    unchanged: int = 0
    """Files that were there already."""
    left_out: list[str] = field(default_factory=list)
    """What was not copied, and why, a line each."""
