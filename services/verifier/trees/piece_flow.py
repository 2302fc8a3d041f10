"""When the next piece leaves for the stages: just when the first of them is free. Pure.

A piece that is sent sooner waits behind another, and its rows were chosen without what returns meanwhile; one that is
sent later leaves a stage idle. The slowest stage sets the pace. Pieces whose rows are all dead do not count as under
way: nothing waits for them.
"""

from math import inf
from typing import Final

from shared.planning.estimates import Mean
from shared.planning.pieces import StageLaw

HOLD_SHARE: Final = 0.6  # of a pass: a root whose tree is empty waits so long for drafts to go with it


class PieceFlow:
    """law: of the slowest stage. in_flight: living pieces under way at most. Times in seconds, on the caller's clock.

    What passes really take, relative to the law, is learnt.
    """

    def __init__(self, law: StageLaw, in_flight: int) -> None:
        self._law = law
        self._in_flight = in_flight
        self._scale = Mean(1.0, weight=0.1)
        self._free_at = 0.0

    def sent(self, rows: int, now: float) -> None:
        """A piece of so many rows has left."""
        self._free_at = max(now, self._free_at) + self._pass_s(rows)

    def returned(self, rows: int, slowest_s: float) -> None:
        """A piece of so many rows is back, and took so long in the stage where it took longest."""
        if expected_s := self._law.pass_ms(rows) / 1e3:
            self._scale.observe(slowest_s / expected_s)

    def due(self, living: int) -> float:
        """When the next piece may leave, given the living ones under way; inf = not before one returns."""
        return inf if living >= self._in_flight else self._free_at

    @property
    def hold_s(self) -> float:
        """How long a lone session's root waits for its first drafts."""
        return HOLD_SHARE * self._pass_s(1)

    def _pass_s(self, rows: int) -> float:
        return self._scale.value * self._law.pass_ms(rows) / 1e3
