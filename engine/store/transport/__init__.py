"""Two transports for the database's functions: PostgreSQL and Supabase's REST API."""
