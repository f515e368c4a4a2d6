"""`sparky reconcile`: differences between books and venue, and how a person settles them."""
