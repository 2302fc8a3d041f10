"""The best serving strategy without a fixed cycle: draft lengths, lanes and closing rules, chosen by simulation.

Candidates come from three sources and are then improved by small changes:

- a DiP-SD plan: its batches are lanes, which close when all members, or a share of them, are ready;
- no lanes: a pass starts as soon as `min_ready` users are ready and takes at most `max_rows`. Each user drafts the
  length that is best for it alone: the l that maximises (w·u(l) − price·t(l)) / (own time with l). Here t(l) is the
  time that its row takes of the verifier and `price` is the value of the verifier's time, from a grid of prices.
  k = 0 wins where drafting does not pay;
- the strategy in force, and the target alone with all users in every pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shared.planning.objective import ObjectiveName
from shared.planning.problem import Server
from shared.planning.strategies.simulation import SimulatedRates, Strategies, simulate
from shared.planning.strategies.user_arrays import Floats, Ints, UserArrays

# Prices of the verifier's time, relative to the tokens that rows without drafts bring in that time.
PRICES: Final = np.array([0.0, 0.3, 0.6, 0.9, 1.2, 1.5])
SHARES: Final = (1.0, 0.85, 0.7, 0.5, 0.3)  # of a lane's members that must be ready
PHASES: Final = (1.0, 1.5, 2.0, 3.0, 4.0)  # M divided by each of these: rows of a pass at most
ITERATIONS: Final = 3  # each one starts with a better estimate of how long a user waits for its verdict
MAX_CELLS: Final = 40_000  # users × strategies simulated at once
CLIMB_ROUNDS: Final = 6
MAX_CLIMB_USERS: Final = 40  # with more users the effect of a small change is lost in the noise
MAX_LANES: Final = 6
CLEAR_GAIN: Final = 1.02  # the gain that replacing the strategy in force, or the target alone, must bring
LONG_RUN: Final = 240, 48  # passes of the final comparison, and of these not counted
PASS_STD: Final = 0.04  # of a pass's time, so that no strategy depends on passes and drafts ending together
LENGTH_STEPS: Final = np.array(
    [-2, -1, 1, 2, -(10**6)]
)  # small changes of a draft length; the last one makes it 0
START_LENGTHS: Final = np.array([1, 2, 4, 6, 8])  # instead of 0: behind a slow link only longer drafts pay
MIN_GAIN: Final = 1.002  # the gain that a small change must bring


@dataclass(frozen=True, slots=True)
class ServingQuery:
    """What to plan for: users, server, objective, limits.

    max_rows: rows of a pass. max_draft: tokens of a draft.
    """

    user_arrays: UserArrays
    server: Server
    objective: ObjectiveName
    max_rows: int
    max_draft: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One strategy and its simulated performance.

    rates: tokens per millisecond of each user [M]. rounds: verifications per millisecond of each user [M]. busy: the
    verifier's share of the time.
    """

    strategy: Strategies
    rates: Floats
    rounds: Floats
    busy: float
    score: float


def best_strategy(
    query: ServingQuery,
    starts: Sequence[Strategies],
    iterations: int = ITERATIONS,
    current: Strategies | None = None,
) -> Candidate:
    """The best strategy found.

    starts: strategies to consider as well, such as those of a DiP-SD plan. iterations: rounds of the search without
    lanes. current: the strategy in force.

    A new strategy must be clearly better than the starts and than the target alone, because the best of many noisy
    scores is overestimated. Other lanes must be clearly better than those in force, because passes are too small until
    the users have fallen into step again.
    """
    best = _search(query, [*starts, *([current] if current else [])], iterations)
    if current is None or len(query.user_arrays) > MAX_CLIMB_USERS or _same_lanes(best.strategy, current):
        return best
    improved_current = _confirmed(query, _hill_climb(query, _simulated(query, current)).strategy)
    return best if best.score > _scaled_score(query, improved_current, CLEAR_GAIN) else improved_current


def _search(query: ServingQuery, starts: Sequence[Strategies], iterations: int) -> Candidate:
    """The best of the starts, the target alone and strategies without lanes, improved by small changes."""
    best = _simulated(query, Strategies.concatenate([*starts, _target_only(query)]))
    required = _scaled_score(query, best, CLEAR_GAIN)
    wait_ms, weight = None, np.ones(len(query.user_arrays))
    for _ in range(iterations):
        strategies = _without_lanes(query, wait_ms, weight)
        outcome = simulate(query.user_arrays, query.server, strategies, pass_std=PASS_STD)
        candidate = _best_of(query, strategies, outcome)
        if candidate.score > max(best.score, required):
            best = candidate
        away = query.user_arrays.away_ms(strategies.lengths)
        wait_ms = np.maximum(1 / np.maximum(outcome.rounds, 1e-9) - away, 1.0)
        if query.objective == "fair":  # the gradient of Σ log(rate)
            weight = np.clip(candidate.rates.mean() / np.maximum(candidate.rates, 1e-9), 0.05, 20.0)
    climbed = _hill_climb(query, best) if len(query.user_arrays) <= MAX_CLIMB_USERS else best
    baseline = _confirmed(query, Strategies.concatenate([*starts, _target_only(query)]))
    improved = _confirmed(query, Strategies.concatenate([best.strategy, climbed.strategy]))
    required_gain = MIN_GAIN if baseline.strategy.lengths.any() else CLEAR_GAIN
    return improved if improved.score > _scaled_score(query, baseline, required_gain) else baseline


def _same_lanes(a: Strategies, b: Strategies) -> bool:
    """Whether both strategies put the same users together."""
    together = [strategy.lane[0][:, None] == strategy.lane[0][None, :] for strategy in (a, b)]
    return bool((together[0] == together[1]).all())


def strategies_of_batches(
    lengths: Ints, batches: Sequence[Sequence[int]], max_rows: int
) -> Strategies | None:
    """The batches of a DiP-SD plan as lanes, with every closing share of SHARES.

    None when there are more than MAX_LANES batches, or one is larger than max_rows.
    """
    if len(batches) > MAX_LANES or max(len(batch) for batch in batches) > max_rows:
        return None
    lane = np.zeros(len(lengths), dtype=np.int64)
    for n, batch in enumerate(batches):
        lane[list(batch)] = n
    sizes = np.array([len(batch) for batch in batches])
    min_ready = np.array([np.maximum(1, np.ceil(share * sizes - 1e-9)) for share in SHARES], dtype=np.int64)
    count = len(SHARES)
    return Strategies(
        np.tile(lengths, (count, 1)),
        np.tile(lane, (count, 1)),
        min_ready,
        np.full(count, max_rows, dtype=np.int64),
    )


def _target_only(query: ServingQuery) -> Strategies:
    """The target alone, with all users in every pass."""
    size = len(query.user_arrays)
    nothing = np.zeros((1, size), dtype=np.int64)
    rows = np.array([min(size, query.max_rows)])
    return Strategies(nothing, nothing, rows[:, None], rows)


def _without_lanes(query: ServingQuery, wait_ms: Floats | None, weight: Floats) -> Strategies:
    """Strategies without lanes: every closing rule with every price.

    wait_ms: how long each user waits for its verdict, from a simulation of the same rules [S, M]. weight: of each
    user's tokens [M].
    """
    size = len(query.user_arrays)
    rules = sorted(
        {
            (max(1, round(share * max_rows)), max_rows)
            for max_rows in {min(query.max_rows, int(-(-size // phases))) for phases in PHASES}
            for share in SHARES
        }
    )
    price_count = max(1, min(len(PRICES), MAX_CELLS // (size * len(rules))))
    prices = PRICES[:: max(1, len(PRICES) // price_count)]
    min_ready = np.repeat([min_ready for min_ready, _ in rules], len(prices))
    max_rows = np.repeat([max_rows for _, max_rows in rules], len(prices))
    one_row_ms = _empty_pass_ms(query, 1.0)
    price = np.tile(prices, len(rules)) * size / (_empty_pass_ms(query, 0.0) + size * _row_ms(query).mean())
    if wait_ms is None or len(wait_ms) != len(min_ready):
        wait_ms = np.repeat((one_row_ms + 2 * max_rows * _token_ms(query))[:, None], size, axis=1)
    lengths = individual_lengths(query, price, wait_ms, weight)
    return Strategies(lengths, np.zeros_like(lengths), min_ready[:, None], max_rows)


def individual_lengths(query: ServingQuery, price: Floats, wait_ms: Floats, weight: Floats) -> Ints:
    """The length that is best for each user alone [S, M].

    price: tokens that a millisecond of the verifier is worth [S]. wait_ms: for a verdict [S, M]. weight: [M].
    """
    user_arrays, best = query.user_arrays, np.full(wait_ms.shape, -np.inf)
    chosen = np.zeros(wait_ms.shape, dtype=np.int64)
    row_ms, token_ms = _row_ms(query), _token_ms(query)
    for length in range(query.max_draft + 1):
        same_length = np.full(len(user_arrays), length)
        net = weight * user_arrays.emitted(same_length) - price[:, None] * (row_ms + token_ms * length)
        gain = np.where(
            length <= user_arrays.max_lengths, net / (user_arrays.away_ms(same_length) + wait_ms), -np.inf
        )
        chosen = np.where(gain > best, length, chosen)
        best = np.maximum(best, gain)
    return chosen


def _hill_climb(query: ServingQuery, best: Candidate) -> Candidate:
    """Hill climbing: simulate all small changes at once and make the best one, until none is better."""
    for _ in range(CLIMB_ROUNDS):
        strategies = _variations(query, best.strategy)
        candidate = _simulated(query, strategies)
        if candidate.score <= _scaled_score(query, best, MIN_GAIN):
            break
        best = candidate
    return best


def _scaled_score(query: ServingQuery, candidate: Candidate, factor: float) -> float:
    """The score if every user's rate were larger by this factor."""
    if query.objective == "fair":
        return candidate.score + len(query.user_arrays) * float(np.log(factor))
    return candidate.score * factor


def _variations(query: ServingQuery, strategy: Strategies) -> Strategies:
    """All small changes of a strategy: one user's length, the closing rule, the rows of a pass."""
    size = len(query.user_arrays)
    changed = np.repeat(strategy.lengths, size * len(LENGTH_STEPS), axis=0)
    users = np.repeat(np.arange(size), len(LENGTH_STEPS))
    row = np.arange(len(users))
    steps = np.where(strategy.lengths[0][:, None] > 0, LENGTH_STEPS, START_LENGTHS).ravel()
    changed[row, users] = np.clip(changed[row, users] + steps, 0, query.user_arrays.max_lengths[users])
    repeated = strategy[np.zeros(len(users), dtype=np.int64)]
    always_ready = (changed == 0).sum(axis=1)  # a user who starts to draft need not be waited for
    starts = (changed > 0).sum(axis=1) > (strategy.lengths > 0).sum()
    min_ready_relaxed = np.where(
        starts[:, None],
        np.minimum(repeated.min_ready, np.maximum(1, always_ready)[:, None]),
        repeated.min_ready,
    )
    variations = [replace(repeated, lengths=changed, min_ready=min_ready_relaxed)]
    sizes = np.bincount(strategy.lane[0], minlength=strategy.min_ready.shape[1])
    for step in (-2, -1, 1, 2):
        min_ready = np.where(
            strategy.min_ready > 0, np.clip(strategy.min_ready + step, 1, np.maximum(sizes, 1)), 0
        )
        variations.append(replace(strategy, min_ready=min_ready))
    for step in (-1, 1):
        variations.append(
            replace(
                strategy, max_rows=np.clip(strategy.max_rows + step, strategy.min_ready.max(), query.max_rows)
            )
        )
    return Strategies.concatenate(variations)


def _confirmed(query: ServingQuery, strategies: Strategies) -> Candidate:
    """The best of a few strategies, from a longer simulation with other draws.

    The best score of many short simulations is partly luck.
    """
    passes, warmup = LONG_RUN
    return _best_of(
        query,
        strategies,
        simulate(query.user_arrays, query.server, strategies, passes, warmup, seed=2, pass_std=PASS_STD),
    )


def _simulated(query: ServingQuery, strategies: Strategies) -> Candidate:
    """The best of some strategies, from a short simulation."""
    return _best_of(
        query, strategies, simulate(query.user_arrays, query.server, strategies, pass_std=PASS_STD)
    )


def _best_of(query: ServingQuery, strategies: Strategies, outcome: SimulatedRates) -> Candidate:
    if query.objective == "fair":
        scores = np.log(np.maximum(outcome.rates, 1e-12)).sum(axis=1)
    else:
        scores = outcome.rates.sum(axis=1)
    row = int(scores.argmax())
    return Candidate(
        strategies[np.array([row])],
        outcome.rates[row],
        outcome.rounds[row],
        float(outcome.busy[row]),
        float(scores[row]),
    )


def _empty_pass_ms(query: ServingQuery, rows: float) -> float:
    """Milliseconds of a pass over so many rows without drafts or context."""
    return float(query.server.verify_ms(rows, 0.0, 0.0, 0.0, 0.0))


def _row_ms(query: ServingQuery) -> Floats:
    """Milliseconds that each user's row adds to a pass, without a draft [M]."""
    prefix, one = query.user_arrays.prefix, np.ones(len(query.user_arrays))
    with_row = np.asarray(query.server.verify_ms(one * 2, 0.0 * one, 0.0 * one, prefix, prefix))
    row_ms: Floats = with_row - _empty_pass_ms(query, 1.0)
    return row_ms


def _token_ms(query: ServingQuery) -> float:
    """Milliseconds that a drafted token adds to a pass."""
    return float(
        query.server.verify_ms(1.0, 2.0, 2.0, 0.0, 0.0) - query.server.verify_ms(1.0, 1.0, 1.0, 0.0, 0.0)
    )
