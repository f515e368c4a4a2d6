"""Two transports for calls of SQL functions: PostgreSQL and Supabase's REST API."""
