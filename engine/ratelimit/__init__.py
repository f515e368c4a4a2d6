"""The provider's limits: who may send a request to the model, and when."""
