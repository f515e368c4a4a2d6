"""The database: two thin transports for its functions and one typed facade above them."""
