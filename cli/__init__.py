"""The `sparky` command."""
