"""Pure functions: parse responses, and reconcile a day's snapshots into facts."""
