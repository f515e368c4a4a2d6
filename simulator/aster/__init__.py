"""A local server that speaks Aster's futures API."""
