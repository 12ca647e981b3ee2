"""The texts of options in, numbers out: the types of argparse that several benchmarks share, each with an error of its own."""

from __future__ import annotations

import argparse
import math


def positive_integer(text: str) -> int:
    """The number that an option has, 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def positive_integers(text: str) -> list[int]:
    """The numbers that an option has, 1 or more each, with commas between them."""
    return [positive_integer(part) for part in text.split(",")]


def count_or_zero(text: str) -> int:
    """The number that an option has, 0 or more."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


def duration(text: str) -> float:
    """The seconds or minutes that an option has, 0 or more, also a part of one."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value
