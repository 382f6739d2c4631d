"""What weft is measured against, and how: `python -m bench` (see docs/performance.md)."""
