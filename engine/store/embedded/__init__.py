"""A PostgreSQL of our own for those who name no database."""
