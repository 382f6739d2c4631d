"""Header formats and checksums: values and codecs, no state."""
