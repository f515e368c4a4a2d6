"""Which accepted signals execute now, and which wait."""
