"""What one forward pass of the verifier costs: two laws behind one interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

# One row of a pass: (new tokens, tokens cached before them).
Row = tuple[int, int]
# A number, or an array of them: laws are computed for one batch or for many at once.
Real = float | npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pass is to the verifier; for many passes every field is an array."""

    rows: Real
    new: Real  # tokens of all rows
    longest: Real  # new tokens of the longest row
    cached: Real  # tokens of all rows, before the new ones
    prefix: Real  # cached tokens of the longest

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Shape":
        """The shape of one pass over these rows, of which there must be one."""
        new, cached = [n for n, _ in rows], [c for _, c in rows]
        return cls(len(rows), sum(new), max(new), sum(cached), max(cached))


class CostLaw(Protocol):
    """A measured law of the verifier's time."""

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one forward pass over rows; 0.0 without rows."""
        ...

    def pass_ms(self, shape: Shape) -> Real:
        """Milliseconds of a pass, or of many."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """Ours: every row costs what it is, `beta + per_token · Σ new + per_context · Σ cached`."""

    beta_ms: float
    per_token_ms: float
    per_context_ms: float = 0.0

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """See CostLaw."""
        return float(self.pass_ms(Shape.of(rows))) if rows else 0.0

    def pass_ms(self, shape: Shape) -> Real:
        """See CostLaw."""
        return self.beta_ms + self.per_token_ms * shape.new + self.per_context_ms * shape.cached


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
        return float(self.pass_ms(Shape.of(rows))) if rows else 0.0

    def pass_ms(self, shape: Shape) -> Real:
        """See CostLaw."""
        width = 2 * self.hidden + shape.prefix + shape.longest + self.feed_forward
        operations = 4 * self.layers * self.hidden * shape.longest * width
        return self.ms_per_operation * shape.rows * operations + self.beta_ms
