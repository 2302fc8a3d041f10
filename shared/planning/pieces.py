"""How a draft tree is cut into pieces for a target whose layers are split over a pipeline of machines. Pure.

Ranks 1..N are stages, each with a part of the layers. Rank 0 drafts, applies the output head and decides. A pass of n
rows takes a stage β + c·n. Times are in ms, rows in tokens.

A row is worth the probability that it lies on the target's path, and costs c at every stage. A row that is not sent now
can be sent later, when more is decided, so it must be worth more than its cost: the rule's factor, 3 for one user,
was found by simulation (`outrider bench pipeline`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor
from typing import Final

PIECE_FACTOR: Final = 1.3
PIECE_POWER: Final = 0.6


@dataclass(frozen=True, slots=True)
class StageLaw:
    """Time of a pass: beta_ms + per_token_ms · rows. A pass without rows is not run."""

    beta_ms: float
    per_token_ms: float

    def pass_ms(self, rows: int) -> float:
        """Duration of a pass in ms."""
        return self.beta_ms + self.per_token_ms * rows if rows else 0.0


@dataclass(frozen=True, slots=True)
class PipelineLaw:
    """Costs of a pipeline, in ms.

    stages: ranks 1..N. hop_ms: one message between neighbours, and from the last stage to rank 0. wire_ms: of each
    row's activations on such a message, but for the first hop, which carries token ids. draft_ms: one pass of the
    drafter, draft_row_ms: for each of its rows. head: rank 0's pass over the rows that return. layers: of each stage; a
    stage that hears of a decision during a pass leaves dead rows out of the layers that it has not begun.
    """

    stages: tuple[StageLaw, ...]
    hop_ms: float
    wire_ms: float
    draft_ms: float
    head: StageLaw
    draft_row_ms: float = 0.0
    layers: int = 8

    def slowest(self, rows: int) -> StageLaw:
        """The stage that limits a stream of pieces of so many rows."""
        return max(self.stages, key=lambda stage: stage.pass_ms(rows))

    def round_trip_ms(self, rows: int) -> float:
        """From sending a piece into an empty pipeline until its tokens are known."""
        passes = sum(stage.pass_ms(rows) for stage in self.stages)
        hops = (len(self.stages) + 1) * self.hop_ms + len(self.stages) * self.wire_ms * rows
        return passes + hops + self.head.pass_ms(rows)


def piece_size(law: StageLaw) -> int:
    """Rows of a piece when all pieces are alike: 1.3 · (β/c)^0.6, at least 1."""
    ratio: float = (law.beta_ms / law.per_token_ms) ** PIECE_POWER
    return max(1, round(PIECE_FACTOR * ratio))


def in_flight(law: PipelineLaw, rows: int) -> int:
    """Pieces of so many rows that keep the slowest stage busy: round trip over its pass, rounded down, at least 1."""
    return max(1, floor(law.round_trip_ms(rows) / law.slowest(rows).pass_ms(rows)))


def is_worth_adding(probability: float, expected: float, rows: int, law: StageLaw, factor: float) -> bool:
    """Does a further row pay for itself? P · (β + c·n) ≥ factor · c · ΣP.

    probability: of the row to lie on the target's path. expected: the sum of the rows' that the piece has already;
    rows: their number.
    """
    return probability * (law.beta_ms + law.per_token_ms * rows) >= factor * law.per_token_ms * expected


def ratio_factor(users: int) -> float:
    """The factor of the ratio rule, 2 + 1/users."""
    return 2.0 + 1.0 / users


def rows_worth_sending(probabilities: Iterable[float], law: StageLaw, users: int) -> int:
    """How many rows, the likeliest first, the ratio rule puts into one piece."""
    expected, rows, factor = 0.0, 0, ratio_factor(users)
    for probability in probabilities:
        if not is_worth_adding(probability, expected, rows, law, factor):
            break
        expected += probability
        rows += 1
    return rows
