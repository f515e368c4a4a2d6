"""Supervision of child processes and messages between them; what the children do is known in `actors` alone."""
