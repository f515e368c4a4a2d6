"""ccxt clients with bounded time and size, within the venue's request weights, with translated errors."""
