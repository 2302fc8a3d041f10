"""Local search around a batching: shares and batches in turn, until neither improves the end of the cohort.

The dynamic programme knows the steady period alone. Uploads, the first and the last round also depend on the sequence
of the batches and on who is in the first one. A change moves a cut between neighbours, merges or splits batches, or
moves one in the sequence; all changes with the same number of batches are bounded at once.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from shared.planning.latency.interval_costs import Batching, IntervalCosts, ends_of
from shared.planning.latency.latency_plan import best_of
from shared.planning.latency.radio import Radio

IMPROVEMENT: Final = 1e-9  # relative: smaller ones end the search
FAR: Final = 32  # batches up to which every batch is moved to every place, and cuts by all steps
CHANGED: Final = 400_000  # users in all changes of one step together, at most; others come in another step
MIN_CHANGES: Final = 64
SHARED: Final = 24  # changes of a kind, most promising first, for which shares are computed


def refined(
    costs: IntervalCosts, batching: Batching, radio: Radio, latency_ms: float, steps: int
) -> tuple[Batching, float]:
    """The best batching that single changes lead to, and the end of its cohort, in at most so many steps."""
    changes = max(MIN_CHANGES, CHANGED // costs.users)
    for step in range(steps):
        limit, best = latency_ms * (1 - IMPROVEMENT), batching
        candidates = list(_neighbours(batching))
        every = -(-len(candidates) // changes)
        for neighbours in _by_size(candidates[step % every :: every]):
            pairs = np.array(neighbours, dtype=np.int64)
            firsts, ends = pairs[..., 0], pairs[..., 1]
            inside = np.array([costs.admits(first, end) for first, end in zip(firsts, ends, strict=True)])
            if inside.any():
                limit, at = best_of(costs, firsts[inside], ends[inside], radio, limit, SHARED)
                best = neighbours[int(np.flatnonzero(inside)[at])] if at >= 0 else best
        if best == batching and every == 1:
            break
        if best != batching:
            batching, latency_ms = best, limit
    return batching, latency_ms


def sequences(batching: Batching) -> list[Batching]:
    """Sequences of the same batches that are worth trying: ascending, descending, by size."""
    by_size = sorted(batching, key=lambda pair: pair[1] - pair[0])
    ordered = sorted(batching)
    return list(dict.fromkeys(tuple(each) for each in (ordered, ordered[::-1], by_size, by_size[::-1])))


def _by_size(batchings: Sequence[Batching]) -> list[list[Batching]]:
    groups: dict[int, list[Batching]] = {}
    for each in dict.fromkeys(batchings):
        groups.setdefault(len(each), []).append(each)
    return list(groups.values())


def _neighbours(batching: Batching) -> Iterator[Batching]:
    yield from _moved_cuts(batching)
    yield from _merged(batching)
    yield from _split(batching)
    yield from _resequenced(batching)


def _moved_cuts(batching: Batching) -> Iterator[Batching]:
    starts = {first: at for at, (first, _) in enumerate(batching)}
    for at, (first, end) in enumerate(batching):
        if end in starts:
            other = starts[end]
            far = batching[other][1]
            for step in (1, 2, 4, 8, 16, 32) if len(batching) <= FAR else (1, 4):
                for cut in (end - step, end + step):
                    if first < cut < far:
                        new = list(batching)
                        new[at], new[other] = (first, cut), (cut, far)
                        yield tuple(new)


def _merged(batching: Batching) -> Iterator[Batching]:
    starts = {first: at for at, (first, _) in enumerate(batching)}
    for at, (first, end) in enumerate(batching):
        if end in starts:
            other = starts[end]
            for place in (at, other):
                new = list(batching)
                new[place] = (first, batching[other][1])
                del new[other if place == at else at]
                yield tuple(new)


def _split(batching: Batching) -> Iterator[Batching]:
    for at, (first, end) in enumerate(batching):
        size = end - first
        cuts = range(first + 1, end) if size <= 8 else (first + size // 4, first + size // 2, end - size // 4)
        for cut in cuts:
            parts = ((first, cut), (cut, end))
            yield (*batching[:at], *parts, *batching[at + 1 :])
            yield (*batching[:at], *parts[::-1], *batching[at + 1 :])


def _resequenced(batching: Batching) -> Iterator[Batching]:
    n = len(batching)
    for at in range(n):
        places = range(n) if n <= FAR else {0, max(0, at - 1), min(n - 1, at + 1), n - 1}
        for place in places:
            new = list(batching)
            new.insert(place, new.pop(at))
            yield tuple(new)


def ends_at(costs: IntervalCosts, batching: Batching, radio: Radio) -> float:
    """The end of the cohort with this batching, in ms."""
    first, end = ends_of(batching)
    return best_of(costs, first[None], end[None], radio, np.inf)[0]
