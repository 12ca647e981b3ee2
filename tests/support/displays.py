"""The display of an evaluation that runs inside a test."""


class Lines:
    """Keeps the lines that an evaluation says; shows nothing else."""

    def __init__(self):
        self.lines = []

    def message(self, line):
        self.lines.append(line)

    count = expect = skip = begin = end = plan = advance = lambda self, *_: None
