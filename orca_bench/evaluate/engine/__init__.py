"""What answers in this process: the prefix tree, attention in it, generation, and how much memory they may take."""
