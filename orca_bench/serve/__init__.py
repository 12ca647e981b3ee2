"""Talking to a model: one answer at a time in the Orca prompt."""
