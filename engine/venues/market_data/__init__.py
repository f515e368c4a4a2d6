"""Public market data: candles, order books, instruments and funding rates."""
