"""`sparky up` and `sparky supervise`: which processes run, and how they are started and reloaded."""
