"""The outlines of points, of radius 1 around the origin: what svg.py and png.py both draw."""

from __future__ import annotations

import math

_Position = tuple[float, float]


def _regular(corner_count: int, first_angle: float, radius: float = 1.0) -> tuple[_Position, ...]:
    """The corners of a regular polygon; the angle of the first one in degrees, 0 to the right and 90 down."""
    angles = [math.radians(first_angle + 360 * index / corner_count) for index in range(corner_count)]
    return tuple((round(radius * math.cos(angle), 4), round(radius * math.sin(angle), 4)) for angle in angles)


_ARM = 0.36  # half the width of the arms of a plus
_PLUS = tuple(
    (x, y)
    for x, y in (
        *((-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)),
        *((_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)),
    )
)
_TURN = math.sqrt(0.5)

#: By name the corners of an outline; a circle has none.
OUTLINES: dict[str, tuple[_Position, ...]] = {
    "circle": (),
    "square": ((-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)),
    "diamond": ((0.0, -1.15), (1.15, 0.0), (0.0, 1.15), (-1.15, 0.0)),
    "triangle up": _regular(3, -90, 1.2),
    "triangle down": _regular(3, 90, 1.2),
    "plus": _PLUS,
    "cross": tuple((round(_TURN * (x - y) * 1.05, 4), round(_TURN * (x + y) * 1.05, 4)) for x, y in _PLUS),
    "pentagon": _regular(5, -90, 1.08),
}

#: The strokes of `x`, the marker of reported scores, which is drawn as lines and not as an outline.
X_STROKES = (((-0.8, -0.8), (0.8, 0.8)), ((-0.8, 0.8), (0.8, -0.8)))
