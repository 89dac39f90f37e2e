"""Looking after the program and its warehouse."""
