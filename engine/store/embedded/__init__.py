"""The embedded PostgreSQL, used when no database is configured."""
