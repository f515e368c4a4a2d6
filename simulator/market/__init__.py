"""The simulated market: candles, prices and time."""
