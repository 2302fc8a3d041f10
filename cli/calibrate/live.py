"""What a batch costs beside its pass, from the trace of a running stack. Pure.

Everybody is in every batch and nobody drafts, so a cycle (from the end of one verification to the end of the next) is
a pass and the broker's share: commit, verdicts, scheduling, staging, reading.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from shared.planning.cost import CostLaw, Shape
from shared.planning.profile import AtUsers, Broker
from shared.protocol.messages import Span

WARM_UP: Final = 0.1  # share of the cycles that is cut at the start
MIN_CYCLES: Final = 8  # steady cycles to go by


@dataclass(frozen=True, slots=True)
class Cycle:
    """One steady batch. cached: tokens that its rows had in the cache, all together."""

    users: int
    cached: int
    cycle_ms: float
    pass_ms: float

    @property
    def shape(self) -> Shape:
        """Of its pass, as the packed law takes it: one new token a row."""
        return Shape(self.users, self.users, 1, self.cached, self.cached / self.users)


def cycles(spans: Iterable[Span], users: int, prompt_tokens: int) -> list[Cycle]:
    """Cycles between two batches of the same `users` sessions, whose prompts have so many tokens together.

    A session's round is the number of its committed tokens: at round r the last of them is fed, prompt + r − 1
    are cached. Round 0 is the prompt's.
    """
    batches: dict[int, dict[str, Span]] = defaultdict(dict)
    for span in spans:
        if span.role == "verifier" and span.kind == "verify":
            batches[span.step][span.session] = span
    ordered = sorted(batches.values(), key=_end_us)
    found = [
        Cycle(
            users,
            prompt_tokens + sum(span.round - 1 for span in now.values()),
            (_end_us(now) - _end_us(before)) / 1e3,
            max(span.end_us - span.start_us for span in now.values()) / 1e3,
        )
        for before, now in pairwise(ordered)
        if len(now) == users and _follows(before, now)
    ]
    return found[int(len(found) * WARM_UP) :]


def at_users(found: Sequence[Cycle], law: CostLaw) -> AtUsers | None:
    """Medians of cycles of as many users each; None when they are too few. law: of the pass alone."""
    if len(found) < MIN_CYCLES:
        return None
    said = [float(law.pass_ms(cycle.shape)) for cycle in found]
    return AtUsers(
        users=found[0].users,
        batches=len(found),
        cycle_ms=median(cycle.cycle_ms for cycle in found),
        batch_ms=median(cycle.cycle_ms - ms for cycle, ms in zip(found, said, strict=True)),
        gap_ms=median(cycle.cycle_ms - cycle.pass_ms for cycle in found),
        pass_over_fit=median(cycle.pass_ms / ms for cycle, ms in zip(found, said, strict=True)),
    )


def broker_of(measured: Sequence[AtUsers]) -> Broker:
    """The share that goes into the laws: the median, and nothing where passes were quicker than the law says."""
    return Broker(batch_ms=max(0.0, median(one.batch_ms for one in measured)), users=tuple(measured))


def _end_us(batch: dict[str, Span]) -> int:
    return max(span.end_us for span in batch.values())


def _follows(before: dict[str, Span], now: dict[str, Span]) -> bool:
    """The same sessions, each a token further, none at its prompt."""
    return before.keys() == now.keys() and all(
        1 <= before[session].round == span.round - 1 for session, span in now.items()
    )
