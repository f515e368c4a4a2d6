"""Supervision of child processes and messages between them, without one word of trading."""
