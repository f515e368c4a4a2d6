"""What the product talks to: databases, pools, venues, a model provider, receivers, and free ports for them."""
