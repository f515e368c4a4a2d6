"""One cycle of one strategy, from its row to its recorded decision."""
