"""`sparky status`: processes, strategies and what needs attention."""
