"""Check the installation, copy a warehouse to another engine, notify a monitoring service."""
