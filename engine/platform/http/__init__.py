"""HTTP with deadlines: clients that end in time, servers that drain, Retry-After in every form."""
