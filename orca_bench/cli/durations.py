"""The text of a length of time in, seconds out: for --max-time."""

from __future__ import annotations

import re

from orca_bench.errors import UserError

_UNITS_S = (86400, 3600, 60, 1)  # a day, an hour, a minute, a second
_NUMBER = r"(\d+\.?\d*)"
_DURATION = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?")


def duration_s(text: str | None) -> float | None:
    """A length of time in seconds: `90m`, `2h`, `1h30m`, `1d`, or a number of seconds; None for None.

    Raises UserError for another text and for no time.
    """
    if text is None:
        return None
    match = _DURATION.fullmatch("".join(text.lower().split()))
    unit_counts = match.groups() if match else ()
    total_s = sum(
        float(unit_count) * unit_s for unit_count, unit_s in zip(unit_counts, _UNITS_S, strict=False) if unit_count
    )
    if total_s <= 0:
        raise UserError(f"'{text}' is not a length of time", where="--max-time", hint="give 90m, 2h, 1h30m, or seconds")
    return total_s
