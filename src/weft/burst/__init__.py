"""The fast path over buffers: split, seal, cut; join, open, merge."""
