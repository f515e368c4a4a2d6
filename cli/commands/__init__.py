"""Commands for people: strategies, credentials, history, kill switch."""
