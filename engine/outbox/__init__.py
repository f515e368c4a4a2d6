"""Delivery of signals from the outbox to the webhook server."""
