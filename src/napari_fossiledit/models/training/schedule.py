"""How far a training is, by steps or by time, and the learning rate there."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

_WARM = 0.06
_FIRST, _LAST = 0.05, 0.002


@dataclass
class Budget:
    """Steps and minutes a training may take; whichever is used up first ends it.

    The learning rate follows the larger used share, so that it always comes down in time however
    fast the machine is. A run that its steps end is the same on every run.
    """

    max_steps: int
    max_seconds: float
    step: int = 0
    spent: float = 0.0
    _start: float = field(default_factory=time.monotonic)

    def restart(self, step: int, spent: float) -> None:
        """Go on from an earlier run."""
        self.step, self.spent, self._start = step, spent, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of this and earlier runs."""
        return self.spent + time.monotonic() - self._start

    @property
    def share(self) -> float:
        """Share of the budget that is used, 0 to 1.

        Time counts in whole steps, so that it changes nothing where the steps are used up first.
        """
        by_time = int(self.seconds / self.max_seconds * self.max_steps)
        return min(max(self.step, by_time) / self.max_steps, 1.0)

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end, None before the first step."""
        share = self.share
        return self.seconds * (1 - share) / share if self.step and share > 0 else None


def one_cycle(share: float) -> float:
    """Factor of the peak learning rate: a short rise, then a cosine (Smith & Topin 2018)."""
    if share < _WARM:
        return _FIRST + (1 - _FIRST) * share / _WARM
    fall = (1 + math.cos(math.pi * (share - _WARM) / (1 - _WARM))) / 2
    return _LAST + (1 - _LAST) * fall
