"""Everything that reads the warehouse for people and programs: status, query, checks, publish, export, report."""
