"""Time of a batch outside its pass, from the trace of a running stack. Pure.

All users are in every batch and there are no drafts. So a cycle (from the end of one verification to the end of the
next) consists of a pass and the broker's share: commit, verdicts, scheduling, staging, reading.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from shared.planning.cost import CostLaw, Shape
from shared.planning.profile import AtUsers, BrokerCosts
from shared.protocol.messages import Span

WARM_UP: Final = 0.1  # share of the cycles that is cut at the start
MIN_CYCLES: Final = 8  # steady cycles that are needed


@dataclass(frozen=True, slots=True)
class Cycle:
    """One steady batch. cached: cached tokens of all its rows together."""

    users: int
    cached: int
    cycle_ms: float
    pass_ms: float

    @property
    def shape(self) -> Shape:
        """Shape of its pass for the packed law: one new token per row."""
        return Shape(self.users, self.users, 1, self.cached, self.cached / self.users)


def cycles(spans: Iterable[Span], users: int, prompt_tokens: int) -> list[Cycle]:
    """Cycles between two batches of the same `users` sessions. prompt_tokens: of all their prompts together.

    A session's round is the number of its committed tokens: at round r the last of them is fed, prompt + r − 1
    are cached. Round 0 is the prompt's.
    """
    batches: dict[int, dict[str, Span]] = defaultdict(dict)
    for span in spans:
        if span.role == "verifier" and span.kind == "verify":
            batches[span.step][span.session] = span
    ordered = sorted(batches.values(), key=_end_us)
    steady = [
        Cycle(
            users,
            prompt_tokens + sum(span.round - 1 for span in now.values()),
            (_end_us(now) - _end_us(before)) / 1e3,
            max(span.end_us - span.start_us for span in now.values()) / 1e3,
        )
        for before, now in pairwise(ordered)
        if len(now) == users and _follows(before, now)
    ]
    return steady[int(len(steady) * WARM_UP) :]


def at_users(steady: Sequence[Cycle], law: CostLaw) -> AtUsers | None:
    """Medians of cycles with equal users; None when there are fewer than MIN_CYCLES. law: of the pass alone."""
    if len(steady) < MIN_CYCLES:
        return None
    predicted_ms = [float(law.pass_ms(cycle.shape)) for cycle in steady]
    return AtUsers(
        users=steady[0].users,
        batches=len(steady),
        cycle_ms=median(cycle.cycle_ms for cycle in steady),
        batch_ms=median(cycle.cycle_ms - ms for cycle, ms in zip(steady, predicted_ms, strict=True)),
        gap_ms=median(cycle.cycle_ms - cycle.pass_ms for cycle in steady),
        pass_over_fit=median(cycle.pass_ms / ms for cycle, ms in zip(steady, predicted_ms, strict=True)),
    )


def broker_of(measured: Sequence[AtUsers]) -> BrokerCosts:
    """The share that is added to the laws: the median, but not below 0, if passes were faster than the law."""
    return BrokerCosts(batch_ms=max(0.0, median(one.batch_ms for one in measured)), users=tuple(measured))


def _end_us(batch: dict[str, Span]) -> int:
    return max(span.end_us for span in batch.values())


def _follows(before: dict[str, Span], now: dict[str, Span]) -> bool:
    """Whether both have the same sessions, each one token further, none at its prompt."""
    return before.keys() == now.keys() and all(
        1 <= before[session].round == span.round - 1 for session, span in now.items()
    )
