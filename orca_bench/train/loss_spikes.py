"""The losses of the last steps in, the height of a spike of the next one out.

The rule is the modified z-score of Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): the distance from the median
in units of the median absolute deviation, times 1.4826, which makes that the standard deviation where the losses are normal.
Neither is moved by the spike itself or by an earlier one. Its own module because the rule has a memory, which a run that
continues reads back from its metrics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

WINDOW_STEPS = 50  # steps before the one that is judged
_NORMAL_DEVIATIONS_PER_MAD = 1.4826  # 1 / the upper quartile of the standard normal distribution
_MIN_DEVIATION_SHARE = 0.05  # of the median: else the losses of a model that has learned everything would all be spikes


class LossSpikes:
    """Judges the losses of a run (nats per trained token) one by one; `earlier_losses` are those before, in their order."""

    def __init__(self, earlier_losses: Iterable[float] = ()) -> None:
        self._losses = deque(earlier_losses, maxlen=WINDOW_STEPS)

    def height(self, loss: float) -> float | None:
        """How many deviations a loss is above the median of the last steps, negative below; None until there are enough."""
        if len(self._losses) < WINDOW_STEPS:
            return None
        median = float(np.median(self._losses))
        absolute_deviation = float(np.median(np.abs(np.array(self._losses) - median)))
        deviation = max(_NORMAL_DEVIATIONS_PER_MAD * absolute_deviation, _MIN_DEVIATION_SHARE * median)
        return (loss - median) / deviation if deviation > 0 else None

    def add(self, loss: float) -> None:
        """Remember the loss of a step."""
        self._losses.append(loss)
