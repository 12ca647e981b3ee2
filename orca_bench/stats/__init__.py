"""Scores of questions in, statistics out: estimates with their errors, paired tests, corrections for many tests."""
