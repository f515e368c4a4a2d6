"""Receives signals: authenticates, checks risk, executes and books."""
