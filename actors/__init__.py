"""Actors: one process each, supervised in one way, reached by name."""
