"""What one forward pass of the verifier costs: two laws behind one interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# One row of a pass: (new tokens, tokens cached before them).
Row = tuple[int, int]


class CostLaw(Protocol):
    """A measured law of the verifier's time."""

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one forward pass over rows; 0.0 without rows."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """Ours: every row costs what it is, `beta + per_token · Σ new + per_context · Σ cached`."""

    beta_ms: float
    per_token_ms: float
    per_context_ms: float = 0.0

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """See CostLaw."""
        if not rows:
            return 0.0
        new, cached = sum(n for n, _ in rows), sum(c for _, c in rows)
        return self.beta_ms + self.per_token_ms * new + self.per_context_ms * cached


@dataclass(frozen=True, slots=True)
class Padded:
    """The papers': all rows padded to the longest, `c · b · F(L, I) + beta` (DiP-SD's G and F_v).

    F(L, I) = 4·J·h1·L·(2·h1 + I + L + h2) operations of one row: J layers, h1 hidden and h2 feed-forward size,
    L the most new tokens and I the longest cached part of any row.
    """

    beta_ms: float
    ms_per_operation: float
    layers: int
    hidden: int
    feed_forward: int

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """See CostLaw."""
        if not rows:
            return 0.0
        longest, prefix = max(n for n, _ in rows), max(c for _, c in rows)
        width = 2 * self.hidden + prefix + longest + self.feed_forward
        operations = 4 * self.layers * self.hidden * longest * width
        return self.ms_per_operation * len(rows) * operations + self.beta_ms
