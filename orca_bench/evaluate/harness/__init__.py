"""lm-evaluation-harness around the engine: its model class, its tasks, and its own prompts (protocol `plain`)."""
