"""A number and a noun in, `1 step` or `1,200 steps` out; dollars in words; and functions that are told how far work is.

Its own module because every room says how many there are of something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

#: Is told how many are done and how many there are in all; None where that is not known.
ReportProgress = Callable[[int, int | None], None]


def counted(number: int, noun: str) -> str:
    """A number of things, in words: `1 step`, `2 steps`, `2 batches`."""
    ending = "es" if noun.endswith("tch") else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def dollars_text(dollars: float) -> str:
    """An amount of money: `$1,234.50`, and below a dollar with four digits after the point, as $0.0031."""
    return f"${dollars:,.2f}" if dollars >= 1 or not dollars else f"${dollars:,.4f}"


def reporting(items: Iterable[Item], report_count: Callable[[int], None]) -> Iterator[Item]:
    """Yield the items; `report_count` gets the number of items after every thousandth."""
    for item_number, item in enumerate(items, 1):
        yield item
        if item_number % 1000 == 0:
            report_count(item_number)
