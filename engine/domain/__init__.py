"""Values and errors of trading; imports nothing of ours but the platform."""
