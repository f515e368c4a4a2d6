"""A local server that speaks Groq's chat completions."""
