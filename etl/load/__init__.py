"""Store facts and sync state, read them back, and lock an account."""
