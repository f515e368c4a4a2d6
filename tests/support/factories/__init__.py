"""Values that tests are given: keys, prices, candles, hostile text, and plain models of what must come out."""
