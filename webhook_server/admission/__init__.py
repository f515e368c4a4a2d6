"""Admission: receives signals, limits their rate, and assigns execution slots."""
