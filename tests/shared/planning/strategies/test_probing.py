"""Probes of sessions that the plan has at k = 0."""

from dataclasses import replace

import numpy as np

from shared.planning.policies.outrider import Outrider
from shared.planning.policy import Plan
from shared.planning.strategies.best_strategy import ServingQuery, best_strategy
from shared.planning.strategies.probing import (
    KNOWN_OBSERVATIONS,
    PROBE_INTERVAL_TOKENS,
    PROBE_LENGTH,
    probe,
    probe_lengths,
)
from shared.planning.views import SessionView
from tests.shared.planning.session_views import SERVER, user_arrays, view

PLAN = Plan((("s0",),), {"s0": 0}, (1,), 64, 80.0, 100.0, 1.0, {"s0": 4})


def unknown(n: int, **changed: object) -> SessionView:
    return view(n, **{"alpha": 0.7, "seen": 0.0, "link_s": 0.06, **changed})


def test_little_known_sessions_are_probed_where_a_slightly_better_alpha_would_pay() -> None:
    views = [*(unknown(n) for n in range(4)), *(unknown(n, draft_s_per_token=0.3) for n in range(4, 14))]
    query = ServingQuery(user_arrays(views), SERVER, "throughput", 64, 16)
    tried = probe_lengths(query, best_strategy(query, []))
    assert (tried[:4] > 0).all()
    assert not tried[4:].any()


def test_well_known_sessions_are_not_probed_by_plan() -> None:
    views = [view(n, alpha=0.4, seen=1e6, link_s=0.06) for n in range(14)]
    query = ServingQuery(user_arrays(views), SERVER, "throughput", 64, 16)
    assert not probe_lengths(query, best_strategy(query, [])).any()


def test_a_session_is_probed_until_it_is_known_and_then_rarely() -> None:
    new = unknown(0, length=200)
    assert probe(new, PLAN) == 4
    assert probe(new, None) == 0
    known = replace(new, seen=KNOWN_OBSERVATIONS)
    assert probe(known, PLAN) == 0
    assert probe(replace(known, length=PROBE_INTERVAL_TOKENS), PLAN) == 4
    assert probe(replace(known, length=PROBE_INTERVAL_TOKENS), replace(PLAN, probes={})) == PROBE_LENGTH


def test_probes_find_the_session_for_which_drafting_pays() -> None:
    """All sessions have a low prior; one has a high α, which only a probe shows."""
    policy, truth = Outrider(), np.array([0.93, *[0.5] * 13])
    views = [
        view(
            n,
            alpha=0.6,
            seen=0.0,
            expected_alpha=0.6,
            link_s=0.07,
            draft_s_per_token=0.012 * (1 + 3 * (n > 0)),
        )
        for n in range(14)
    ]
    rng, plan = np.random.default_rng(3), None
    for _ in range(12):
        plan = policy.plan(views, SERVER, 64, plan)
        assert plan is not None
        for n, one in enumerate(views):
            k = policy.next_length(one, plan, 0.0)
            wrong = np.flatnonzero(rng.random(k) > truth[n])
            accepted = int(wrong[0]) if wrong.size else k
            seen = one.seen + (accepted + (accepted < k) if k else 0)
            right = one.alpha * (one.prior_weight + one.seen) + accepted
            views[n] = replace(
                one, seen=seen, alpha=right / (one.prior_weight + seen), length=one.length + accepted + 1
            )
    assert plan is not None
    assert plan.lengths["s0"] >= 4
    assert sum(plan.lengths.values()) == plan.lengths["s0"]
