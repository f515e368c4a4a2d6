"""Local servers that speak Groq's and Aster's protocols, for runs without keys, tests and benchmarks."""
