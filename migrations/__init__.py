"""Numbered forward-only SQL, named as the Supabase CLI names it."""
