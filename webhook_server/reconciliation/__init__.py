"""Keeps the books equal to what the venue's own record says."""
