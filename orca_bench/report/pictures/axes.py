"""Axes of pictures: from numbers to pixels, ticks at round numbers, intervals with caps.

Its own module because all pictures have axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.drawing import SMALL_SIZE, Label, Line, Paint, Point, Role, Shape

CHANCE_DASH = (1.5, 2.5)
_CAP = 3.5  # pixels, half the height of an interval's caps


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` on pixels from `start` to `end`, with ticks at the numbers `ticks`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def pixel(self, number: float) -> float:
        """The place of a number in pixels; of a number beyond the scale, its end."""
        share = (min(max(number, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def percent_scale(start: float, end: float) -> Scale:
    """0 to 100 percent."""
    return Scale(0, 100, start, end, (0, 20, 40, 60, 80, 100))


def round_scale(numbers: Sequence[float], start: float, end: float, tick_count: int = 5) -> Scale:
    """A scale that holds all numbers, from one round number to another, with about `tick_count` ticks."""
    low, high = min(numbers), max(numbers)
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    step = _round_step((high - low) / tick_count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 10) for index in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def vertical_grid(
    scale: Scale, bands: Sequence[tuple[float, float]], bottom: float, is_signed: bool = False
) -> list[Shape]:
    """Grid lines at the ticks of a horizontal scale in bands (top, bottom), with their numbers below `bottom`."""
    shapes: list[Shape] = []
    for tick in scale.ticks:
        x = scale.pixel(tick)
        shapes += [Line(((x, band_top), (x, band_bottom)), Role.GRID) for band_top, band_bottom in bands]
        shapes.append(Label(x, bottom + SMALL_SIZE + 3, tick_text(tick, is_signed), SMALL_SIZE, "middle", Role.MUTED))
    return shapes


def tick_text(tick: float, is_signed: bool = False) -> str:
    """A tick's number without needless digits, with a real minus sign."""
    text = f"{tick:+g}" if is_signed and tick else f"{tick:g}"
    return text.replace("-", "−")


def interval_shapes(
    scale: Scale, y: float, low: float, high: float, paint: Paint, width: float = 1.6, cap: float = _CAP
) -> list[Shape]:
    """A horizontal interval with caps."""
    left, right = scale.pixel(low), scale.pixel(high)
    lines = [((left, y), (right, y)), ((left, y - cap), (left, y + cap)), ((right, y - cap), (right, y + cap))]
    return [Line(positions, paint, width) for positions in lines]


def chance_line(x: float, top: float, bottom: float) -> Line:
    """What guessing scores, as a dotted line."""
    return Line(((x, top), (x, bottom)), Role.MUTED, 1.6, CHANCE_DASH)


def symbol(style: ModelStyle) -> list[Shape]:
    """A model's marker on an interval, for a legend."""
    return [Line(((-11, 0), (11, 0)), style, 1.6), Point(0, 0, style.marker, style)]


CHANCE_SYMBOL: tuple[Shape, ...] = (Line(((0, -8), (0, 8)), Role.MUTED, 1.6, CHANCE_DASH),)
REPORTED_SYMBOL: tuple[Shape, ...] = (Point(0, 0, "x", Role.INK),)
