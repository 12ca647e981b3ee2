"""A model folder to results: tasks, benchmark rows, protocols, the scoring engine, and lm-evaluation-harness around them."""
