"""Routes, responses and documents of the webhook server."""
