"""Names to addresses: what the network knows by itself, and a resolver that asks servers inside it, sans-IO."""
