"""Writes a migration of what changed in migrations/functions/ (`make migration`): for developers, never installed."""
