"""A model folder in: whether it is one, what it holds, its context window, and the model and tokenizer loaded from it."""
