"""ccxt as we use it: bounded in time and size, within the venue's request weights, its errors translated."""
