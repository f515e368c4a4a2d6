"""Venues: what all of them can do, the paper venue, and live trading through ccxt."""
