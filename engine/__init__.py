"""What the business is: values, rules and the adapters they need; imports neither actors nor the webhook server."""
