"""Instructions to records with a teacher: what is asked, the ledger of what was answered, and the files that come of it."""
