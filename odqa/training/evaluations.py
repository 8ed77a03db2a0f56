"""The evaluations of a run: figures by step, the best of them, and how long nothing was better."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


class Evaluations:
    """Figures by step, higher is better, the first one decides; of equal ones the earlier is best.

    What a checkpoint holds of them is ``state``.
    """

    def __init__(self) -> None:
        self.figures: dict[int, dict[str, float]] = {}
        self.best: int | None = None  # its step
        self.waited = 0  # evaluations since the best one

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Take the next evaluation of a run, and note whether it is the best."""
        self.figures[step] = figures
        if self.best is None or self._first(step) > self._first(self.best):
            self.best, self.waited = step, 0
        else:
            self.waited += 1

    def best_of(self, steps: Collection[int]) -> int | None:
        """The best among those evaluated of ``steps``; None: there is none."""
        among = [step for step in sorted(self.figures) if step in steps]
        return max(among, key=self._first, default=None)

    def state(self) -> dict[str, Any]:
        """What ``load`` takes."""
        return {"evaluations": self.figures, "best_step": self.best, "waited": self.waited}

    def load(self, state: Mapping[str, Any], kept: Collection[int]) -> None:
        """Go on from a checkpoint's; the best is one that is still among the steps ``kept``."""
        self.figures, self.waited = state["evaluations"], state["waited"]
        best: int | None = state["best_step"]
        self.best = best if best is None or best in kept else self.best_of(kept)

    def outcome(self) -> dict[str, Any]:
        """What a run's record says of them: nothing where there are none."""
        if self.best is None:
            return {}
        return {
            "best_step": self.best,
            "dev": self.figures[self.best],
            "evaluations": {str(step): found for step, found in sorted(self.figures.items())},
        }

    def _first(self, step: int) -> float:
        return next(iter(self.figures[step].values()))
