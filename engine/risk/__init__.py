"""Pure rules of what may be traded, and how much."""
