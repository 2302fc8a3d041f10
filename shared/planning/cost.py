"""Cost laws: the time of one forward pass of the verifier. Two laws share one interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

# One row of a pass: (new tokens, tokens cached before them).
Row = tuple[int, int]
# A number or an array: a law is computed for one batch or for many at once.
Real = float | npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a pass, from which a law computes its time. For many passes every field is an array.

    rows: sequences in the pass. new: new tokens of all rows. longest: new tokens of the longest row. cached: tokens of
    all rows before the new ones. prefix: cached tokens of the row with most of them.
    """

    rows: Real
    new: Real
    longest: Real
    cached: Real
    prefix: Real

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Shape":
        """The shape of one pass over these rows. There must be at least one."""
        new, cached = [n for n, _ in rows], [c for _, c in rows]
        return cls(len(rows), sum(new), max(new), sum(cached), max(cached))


class CostLaw(Protocol):
    """A law of the verifier's time."""

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one forward pass over these rows; 0.0 without rows."""
        ...

    def pass_ms(self, shape: Shape) -> Real:
        """Milliseconds of a pass of this shape, or of many passes."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """Law of our verifier, which packs rows without padding: `beta + per_token · Σ new + per_context · Σ cached`."""

    beta_ms: float
    per_token_ms: float
    per_context_ms: float = 0.0

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one forward pass over these rows; 0.0 without rows."""
        return float(self.pass_ms(Shape.of(rows))) if rows else 0.0

    def pass_ms(self, shape: Shape) -> Real:
        """Milliseconds of a pass of this shape, or of many passes."""
        return self.beta_ms + self.per_token_ms * shape.new + self.per_context_ms * shape.cached


@dataclass(frozen=True, slots=True)
class Padded:
    """Law of the papers, with all rows padded to the longest: `c · b · F(L, I) + beta` (G and F_v of DiP-SD).

    One row takes F(L, I) = 4·J·h1·L·(2·h1 + I + L + h2) operations. J is the number of layers, h1 the hidden and h2
    the feed-forward size, L the most new tokens and I the most cached tokens of any row.
    """

    beta_ms: float
    ms_per_operation: float
    layers: int
    hidden: int
    feed_forward: int

    def cost_ms(self, rows: Sequence[Row]) -> float:
        """Milliseconds of one forward pass over these rows; 0.0 without rows."""
        return float(self.pass_ms(Shape.of(rows))) if rows else 0.0

    def pass_ms(self, shape: Shape) -> Real:
        """Milliseconds of a pass of this shape, or of many passes."""
        width = 2 * self.hidden + shape.prefix + shape.longest + self.feed_forward
        operations = 4 * self.layers * self.hidden * shape.longest * width
        return self.ms_per_operation * shape.rows * operations + self.beta_ms
