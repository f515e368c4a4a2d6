"""The simulated venue: accounts, instruments, margin, funding and fees."""
