"""Scores of questions in, statistics out: estimates with their errors, paired tests, corrections for many tests.

`estimates` gives a mean with its standard error and 95 % interval, `paired_tests` the difference of two results on the same
questions, `seed_tests` a run against runs with other seeds, `multiple_testing` Holm's correction. `moments` and
`distributions` hold what these share.
"""
