"""Brings a database to this version's schema, and fills an empty one with demo data."""
