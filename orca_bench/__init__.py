"""orca-bench: train an explain-tuned LLaMA, evaluate it in the Orca prompt, show the scores beside the reported ones."""

__version__ = "0.1.0"
