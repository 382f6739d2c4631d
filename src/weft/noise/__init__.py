"""Noise_IKpsk2 as WireGuard has it on the wire, sans-IO."""
