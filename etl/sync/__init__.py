"""The sync pipeline: plan windows, request them, parse and reconcile the responses, write facts and sync state."""
