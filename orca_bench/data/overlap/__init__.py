"""Which benchmark questions stand in records, as a whole, with a changed word, embedded, or alike in part."""
