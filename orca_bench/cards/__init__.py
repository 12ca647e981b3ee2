"""Model cards: what `train` leaves in a model's folder and what `publish` adds to it.

Everything of a card that needs no results: its file, its metadata and its text. A room of its own below training and reports,
because both write cards and neither may import the other.
"""
