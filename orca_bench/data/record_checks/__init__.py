"""What is checked of single records: unusable rows, empty, truncated and refused responses, duplicates, lengths in tokens."""
