"""How to serve without a fixed cycle: lengths, lanes and when to close, chosen by playing them (see `conserving`).

Strategies come from three sides and are then bettered by small changes:

- DiP-SD's plan, its batches as lanes, closing when all or fewer of a lane are ready;
- no lanes: close as soon as `least` are ready, and take at most `most`. Each user drafts as long as is best for it
  alone: the l that maximises (w·u(l) − price·t(l)) / (own time with l), t(l) being what its row costs the verifier and
  `price` what the verifier's time is worth, for a grid of prices. k = 0 wins where drafting does not pay;
- the way in force, and the target alone with everybody in every pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shared.planning.objective import ObjectiveName
from shared.planning.problem import Server
from shared.planning.strategies.simulation import Outcome, Strategies, play
from shared.planning.strategies.user_arrays import Floats, Ints, UserArrays

PRICES: Final = np.array([0.0, 0.3, 0.6, 0.9, 1.2, 1.5])  # over what everybody's plain rows bring
SHARES: Final = (1.0, 0.85, 0.7, 0.5, 0.3)  # of a lane, that have to be ready
PHASES: Final = (1.0, 1.5, 2.0, 3.0, 4.0)  # M over these: rows of a pass at most
LOOKS: Final = 3  # each knows better how long a user waits for its verdict
CELLS: Final = 40_000  # users × ways played at once
CLIMBS: Final = 6
CLIMBERS: Final = 40  # with more users small changes are lost in the noise
MOST_LANES: Final = 6
CLEARLY: Final = 1.02
LONG: Final = 240, 48  # passes of the last comparison, and of these not counted
UNEVEN: Final = 0.04  # of a pass's time: no way may live on passes and drafts that happen to keep time
SHORTER: Final = np.array([-2, -1, 1, 2, -(10**6)])  # small changes of a length
LONGER: Final = np.array([1, 2, 4, 6, 8])  # and of 0: a far device has to draft some before it pays
WORTH: Final = 1.002  # a small change has to bring more than this


@dataclass(frozen=True, slots=True)
class ServingQuery:
    """Planning query: users, server, objective, limits. max_rows: of a pass; max_draft: tokens of a draft."""

    crew: UserArrays
    server: Server
    objective: ObjectiveName
    max_rows: int
    max_draft: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to serve and what is expected of it: tokens a millisecond of each user [M], rounds likewise."""

    way: Strategies
    rates: Floats
    rounds: Floats
    busy: float
    score: float


def best_strategy(
    asked: ServingQuery, known: Sequence[Strategies], looks: int = LOOKS, force: Strategies | None = None
) -> Candidate:
    """The best way found. known: ways to look at as well, DiP-SD's; force: the one in force.

    Others have to be clearly better than these, and than nobody drafting: the best of many guesses is always a little
    less than it seems. And other lanes have to be clearly better than those in force: until they have fallen into
    step again, passes are too small.
    """
    best = _best(asked, [*known, *([force] if force else [])], looks)
    if force is None or len(asked.crew) > CLIMBERS or _same_lanes(best.way, force):
        return best
    held = _confirmed(asked, _climb(asked, _look(asked, force)).way)
    return best if best.score > _worth(asked, held, CLEARLY) else held


def _best(asked: ServingQuery, known: Sequence[Strategies], looks: int) -> Candidate:
    best = _look(asked, Strategies.all([*known, _plain(asked)]))
    mark = _worth(asked, best, CLEARLY)
    wait_ms, weight = None, np.ones(len(asked.crew))
    for _ in range(looks):
        ways = _laneless(asked, wait_ms, weight)
        outcome = play(asked.crew, asked.server, ways, uneven=UNEVEN)
        found = _found(asked, ways, outcome)
        if found.score > max(best.score, mark):
            best = found
        away = asked.crew.away_ms(ways.lengths)
        wait_ms = np.maximum(1 / np.maximum(outcome.rounds, 1e-9) - away, 1.0)
        if asked.objective == "fair":  # the slope of Σ log(rate)
            weight = np.clip(found.rates.mean() / np.maximum(found.rates, 1e-9), 0.05, 20.0)
    climbed = _climb(asked, best) if len(asked.crew) <= CLIMBERS else best
    kept = _confirmed(asked, Strategies.all([*known, _plain(asked)]))
    bettered = _confirmed(asked, Strategies.all([best.way, climbed.way]))
    clearly = WORTH if kept.way.lengths.any() else CLEARLY
    return bettered if bettered.score > _worth(asked, kept, clearly) else kept


def _same_lanes(a: Strategies, b: Strategies) -> bool:
    """Whether the same users are together."""
    together = [way.lane[0][:, None] == way.lane[0][None, :] for way in (a, b)]
    return bool((together[0] == together[1]).all())


def strategies_of_batches(
    lengths: Ints, batches: Sequence[Sequence[int]], max_rows: int
) -> Strategies | None:
    """DiP-SD's plan as ways to serve; None when it has too many batches for that, or too large ones."""
    if len(batches) > MOST_LANES or max(len(batch) for batch in batches) > max_rows:
        return None
    lane = np.zeros(len(lengths), dtype=np.int64)
    for n, batch in enumerate(batches):
        lane[list(batch)] = n
    sizes = np.array([len(batch) for batch in batches])
    least = np.array([np.maximum(1, np.ceil(share * sizes - 1e-9)) for share in SHARES], dtype=np.int64)
    ways = len(SHARES)
    return Strategies(
        np.tile(lengths, (ways, 1)), np.tile(lane, (ways, 1)), least, np.full(ways, max_rows, dtype=np.int64)
    )


def _plain(asked: ServingQuery) -> Strategies:
    """The target alone, everybody in every pass."""
    size = len(asked.crew)
    nothing = np.zeros((1, size), dtype=np.int64)
    rows = np.array([min(size, asked.max_rows)])
    return Strategies(nothing, nothing, rows[:, None], rows)


def _laneless(asked: ServingQuery, wait_ms: Floats | None, weight: Floats) -> Strategies:
    """Every closing rule with every price. wait_ms: of each user for its verdict, as it came out of the same rules."""
    size = len(asked.crew)
    rules = sorted(
        {
            (max(1, round(share * most)), most)
            for most in {min(asked.max_rows, int(-(-size // phases))) for phases in PHASES}
            for share in SHARES
        }
    )
    few = max(1, min(len(PRICES), CELLS // (size * len(rules))))
    prices = PRICES[:: max(1, len(PRICES) // few)]
    least = np.repeat([least for least, _ in rules], len(prices))
    most = np.repeat([most for _, most in rules], len(prices))
    plain = _plain_ms(asked, 1.0)
    price = np.tile(prices, len(rules)) * size / (_plain_ms(asked, 0.0) + size * _row_ms(asked).mean())
    if wait_ms is None or len(wait_ms) != len(least):
        wait_ms = np.repeat((plain + 2 * most * _token_ms(asked))[:, None], size, axis=1)
    lengths = alone(asked, price, wait_ms, weight)
    return Strategies(lengths, np.zeros_like(lengths), least[:, None], most)


def alone(asked: ServingQuery, price: Floats, wait_ms: Floats, weight: Floats) -> Ints:
    """Everybody's best length for itself, [S, M]. price: [S], of the verifier's millisecond, in tokens."""
    crew, best = asked.crew, np.full(wait_ms.shape, -np.inf)
    chosen = np.zeros(wait_ms.shape, dtype=np.int64)
    row, token = _row_ms(asked), _token_ms(asked)
    for length in range(asked.max_draft + 1):
        all_so_long = np.full(len(crew), length)
        net = weight * crew.emitted(all_so_long) - price[:, None] * (row + token * length)
        gain = np.where(length <= crew.most, net / (crew.away_ms(all_so_long) + wait_ms), -np.inf)
        chosen = np.where(gain > best, length, chosen)
        best = np.maximum(best, gain)
    return chosen


def _climb(asked: ServingQuery, best: Candidate) -> Candidate:
    """Small changes, all at once, as long as one of them is better."""
    for _ in range(CLIMBS):
        ways = _around(asked, best.way)
        found = _look(asked, ways)
        if found.score <= _worth(asked, best, WORTH):
            break
        best = found
    return best


def _worth(asked: ServingQuery, found: Candidate, factor: float) -> float:
    """The score if everybody were that much faster."""
    if asked.objective == "fair":
        return found.score + len(asked.crew) * float(np.log(factor))
    return found.score * factor


def _around(asked: ServingQuery, way: Strategies) -> Strategies:
    """Everybody's length a little longer or shorter, to 0 and from 0; closing a little sooner or later, fewer rows."""
    size = len(asked.crew)
    changed = np.repeat(way.lengths, size * len(SHORTER), axis=0)
    who = np.repeat(np.arange(size), len(SHORTER))
    at = np.arange(len(who))
    steps = np.where(way.lengths[0][:, None] > 0, SHORTER, LONGER).ravel()
    changed[at, who] = np.clip(changed[at, who] + steps, 0, asked.crew.most[who])
    every = way[np.zeros(len(who), dtype=np.int64)]
    idle = (changed == 0).sum(axis=1)  # always ready: whoever starts to draft need not be waited for
    starts = (changed > 0).sum(axis=1) > (way.lengths > 0).sum()
    spared = np.where(starts[:, None], np.minimum(every.least, np.maximum(1, idle)[:, None]), every.least)
    around = [replace(every, lengths=changed, least=spared)]
    sizes = np.bincount(way.lane[0], minlength=way.least.shape[1])
    for step in (-2, -1, 1, 2):
        least = np.where(way.least > 0, np.clip(way.least + step, 1, np.maximum(sizes, 1)), 0)
        around.append(replace(way, least=least))
    for step in (-1, 1):
        around.append(replace(way, most=np.clip(way.most + step, way.least.max(), asked.max_rows)))
    return Strategies.all(around)


def _confirmed(asked: ServingQuery, ways: Strategies) -> Candidate:
    """The best of a few, played for longer and with other draws: the best of many guesses is partly luck."""
    passes, settling = LONG
    return _found(asked, ways, play(asked.crew, asked.server, ways, passes, settling, seed=2, uneven=UNEVEN))


def _look(asked: ServingQuery, ways: Strategies) -> Candidate:
    return _found(asked, ways, play(asked.crew, asked.server, ways, uneven=UNEVEN))


def _found(asked: ServingQuery, ways: Strategies, outcome: Outcome) -> Candidate:
    if asked.objective == "fair":
        scores = np.log(np.maximum(outcome.rates, 1e-12)).sum(axis=1)
    else:
        scores = outcome.rates.sum(axis=1)
    at = int(scores.argmax())
    return Candidate(
        ways[np.array([at])],
        outcome.rates[at],
        outcome.rounds[at],
        float(outcome.busy[at]),
        float(scores[at]),
    )


def _plain_ms(asked: ServingQuery, rows: float) -> float:
    """A pass over so many rows without drafts or context."""
    return float(asked.server.verify_ms(rows, 0.0, 0.0, 0.0, 0.0))


def _row_ms(asked: ServingQuery) -> Floats:
    """What each user's row adds to a pass, without a draft. [M]"""
    prefix, one = asked.crew.prefix, np.ones(len(asked.crew))
    with_row = np.asarray(asked.server.verify_ms(one * 2, 0.0 * one, 0.0 * one, prefix, prefix))
    row: Floats = with_row - _plain_ms(asked, 1.0)
    return row


def _token_ms(asked: ServingQuery) -> float:
    """What a drafted token adds to a pass."""
    return float(
        asked.server.verify_ms(1.0, 2.0, 2.0, 0.0, 0.0) - asked.server.verify_ms(1.0, 1.0, 1.0, 0.0, 0.0)
    )
