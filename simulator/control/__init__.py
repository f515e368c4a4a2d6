"""Control addresses by which tests and people make the simulated venues misbehave."""
