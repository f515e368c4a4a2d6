"""Control addresses of the simulated venues: changes of market and accounts, and faults."""
