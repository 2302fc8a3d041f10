"""What the stages of a modelled pipeline did: every pass, with its rows and those left out."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Pass(NamedTuple):
    """A pass of a stage (from 1), or of rank 0 (stage 0). Times in virtual seconds.

    rows: computed. dropped: rows that were dead before the pass began, or while it ran.
    """

    stage: int
    begin: float
    end: float
    rows: int
    dropped: int
    what: str = "verify"


@dataclass(slots=True)
class Timeline:
    """Passes in the order of their end, and what went over the links.

    messages, bytes: on all hops, with and without rows.
    """

    stages: int
    passes: list[Pass] = field(default_factory=list)
    messages: int = 0
    bytes: int = 0

    def idle(self, begin: float, end: float) -> float:
        """Share of the time between two moments in which a stage computes nothing; mean over the stages."""
        busy = sum(
            min(one.end, end) - max(one.begin, begin)
            for one in self.passes
            if one.stage and one.end > begin and one.begin < end
        )
        return 1.0 - busy / (self.stages * (end - begin))
