"""A plan of objective `latency`, and how a batching becomes one: shares and the exact end of the cohort."""

from dataclasses import dataclass

import numpy as np

from shared.planning.bandwidth.uploads import Floats
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.interval_costs import Batching, IntervalCosts, Intervals, Ints, ends_of
from shared.planning.latency.pipeline import MAX_ROUNDS, serial_ms
from shared.planning.latency.radio import Radio, user_tails


@dataclass(frozen=True)
class LatencyPlan:
    """Batches of user indices in the order of the pipeline, one draft length, rounds, shares and the end of all.

    bandwidth_hz, upload_ms: [K], 0 for users in no cell. period_ms: Λ, the steady period of a round.
    """

    batches: tuple[tuple[int, ...], ...]
    draft_length: int
    rounds: int
    period_ms: float
    latency_ms: float
    bandwidth_hz: Floats
    upload_ms: Floats


def plan_of(costs: IntervalCosts, batching: Batching, radio: Radio, *, pipelined: bool = True) -> LatencyPlan:
    """The plan of a batching. pipelined False: batches one after another, from the last upload on."""
    pipeline, order = costs.pipeline(*ends_of(batching)), costs.intervals.order
    if pipelined:
        tails = user_tails(order, *ends_of(batching), pipeline.tails_ms(costs.rounds))
    else:
        tails = np.full(len(order), serial_ms(pipeline, costs.rounds))
    served = radio.served(tails)
    return LatencyPlan(
        tuple(tuple(order[first:end]) for first, end in batching),
        costs.length,
        costs.rounds,
        float(pipeline.period_ms()) if pipelined else serial_ms(pipeline, 1),
        served.latency_ms,
        served.bandwidth_hz,
        served.upload_ms,
    )


def best_of(
    costs: IntervalCosts,
    firsts: Ints,
    ends: Ints,
    radio: Radio,
    limit_ms: float,
    computed: int | None = None,
) -> tuple[float, int]:
    """The end and the index of the best of many batchings [c, n] that ends before limit_ms; (limit_ms, −1) for none.

    Lower bounds of all are computed at once; shares only for those whose bound is below the best, at most `computed`.
    """
    tails = costs.pipeline(firsts, ends).tails_ms(costs.rounds)
    users = user_tails(costs.intervals.order, firsts, ends, tails)
    bounds = radio.bound_ms(users)
    best, index = limit_ms, -1
    for at in np.argsort(bounds, kind="stable")[:computed]:
        if bounds[at] >= best:
            break
        latency = radio.served(users[at]).latency_ms if radio.joint else float(bounds[at])
        if latency < best:
            best, index = latency, int(at)
    return best, index


def completion_ms(cohort: Cohort, plan: LatencyPlan) -> Floats:
    """When each user's output is done [K], in ms: its batch's verification of that round. With a pipeline."""
    order = tuple(member for batch in plan.batches for member in batch)
    cuts = np.cumsum([0, *(len(batch) for batch in plan.batches)])
    pipeline = Intervals.of(cohort, order).costs(plan.draft_length).pipeline(cuts[:-1], cuts[1:])
    members = [np.array(batch) for batch in plan.batches]
    ready = np.array([plan.upload_ms[batch].max() for batch in members])
    ends = pipeline.ends_ms(min(plan.rounds, MAX_ROUNDS), ready)
    done, rounds = np.zeros(len(order)), np.array(cohort.rounds_of(plan.draft_length))
    later = np.maximum(0, rounds - MAX_ROUNDS) * plan.period_ms
    for at, batch in enumerate(members):
        done[batch] = ends[np.minimum(rounds[batch], MAX_ROUNDS) - 1, at] + later[batch]
    return done
