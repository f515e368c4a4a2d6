"""What the webhook server does on its own, every so often."""
