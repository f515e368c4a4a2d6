"""The model and its provider: what is asked of them, and how what they say is read."""
