"""Venues: the public market, orders through ccxt, and paper."""
