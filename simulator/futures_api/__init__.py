"""The part of the futures API that Aster and Binance have in common: endpoints, JSON and request weights."""
