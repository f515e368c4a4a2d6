"""Checks and changes that people make: strategies, limits, differences between books and venue."""
