"""Instructions to records: reading instruction files in their authors' columns, and putting each under a system message."""
