"""A local server that speaks Binance's futures API."""
