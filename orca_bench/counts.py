"""A number and a noun in, `1 step` or `1,200 steps` out.

Its own module because every room says how many there are of something.
"""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number of things, in words: `1 step`, `2 steps`; the plural of `noun` has an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
