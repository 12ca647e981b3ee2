"""The result, the project's main noun: its types, reading, writing, merging and verifying."""
