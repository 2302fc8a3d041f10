"""The cost of a modelled pass, by the law that a planner has of the same server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.planning.cost import Row
from shared.planning.problem import Server


class RowsCost(Protocol):
    """What a pass over some rows takes."""

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one pass over these rows; 0.0 without rows."""
        ...


@dataclass(frozen=True, slots=True)
class Scaled:
    """Passes that take `factor` times as long."""

    alone: RowsCost
    factor: float

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one pass over these rows; 0.0 without rows."""
        return self.factor * self.alone.cost_ms(rows)


@dataclass(frozen=True, slots=True)
class PassCost:
    """What a pass takes on a server of `outrider plan`.

    Its laws speak of drafts: `padded`, the paper's, counts the tokens of the longest one, at least one; `packed` counts
    each row's draft and one token more. A row of a pass is fed its draft and the committed token before it.
    """

    server: Server

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one pass over these rows; 0.0 without rows."""
        if not rows:
            return 0.0
        drafts, cached = [new - 1 for new, _ in rows], [before for _, before in rows]
        return float(self.server.verify_ms(len(rows), max(drafts), sum(drafts), max(cached), sum(cached)))
