"""Probes: drafts of sessions that the plan has at k = 0, made to learn their α.

A session that does not draft gives no information about its α, and its prior is the α of other sessions. So while
little is known of a session, it drafts as far as it would if its α were better by one standard deviation: optimism in
the face of uncertainty. If its α is as good as that, the plan learns it and changes. If not, the uncertainty shrinks,
and the session is left alone except for a rare probe.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from shared.planning.policy import Plan
from shared.planning.strategies.best_strategy import Candidate, ServingQuery, individual_lengths
from shared.planning.strategies.posteriors import MAX_ALPHA
from shared.planning.strategies.user_arrays import Ints
from shared.planning.views import SessionView

KNOWN_OBSERVATIONS: Final = 40.0  # with so many observations α is known well enough
PROBE_INTERVAL_TOKENS: Final = 256  # between probes of a well-known session
PROBE_LENGTH: Final = 1  # of a well-known session's probe at least


def probe_lengths(query: ServingQuery, candidate: Candidate) -> Ints:
    """Each user's best draft length if its α were one standard deviation better, [M]; 0: none even then."""
    user_arrays = query.user_arrays
    optimistic = replace(
        query,
        user_arrays=replace(
            user_arrays, alpha=np.minimum(user_arrays.alpha + user_arrays.alpha_std, MAX_ALPHA)
        ),
    )
    price = np.array([candidate.busy * candidate.rates.sum()])  # tokens per millisecond of the verifier
    wait_ms = 1 / np.maximum(candidate.rounds, 1e-9) - user_arrays.away_ms(candidate.strategy.lengths[0])
    lengths: Ints = individual_lengths(
        optimistic, price, np.maximum(wait_ms, 1.0)[None], np.ones(len(user_arrays))
    )[0]
    return lengths


def probe(session: SessionView, plan: Plan | None) -> int:
    """Draft length of a probe now, for a session at k = 0; usually 0."""
    planned_probe = plan.probes.get(session.session, 0) if plan else 0
    if session.prior_weight + session.seen < KNOWN_OBSERVATIONS:
        return planned_probe
    return max(planned_probe, PROBE_LENGTH) if session.length % PROBE_INTERVAL_TOKENS == 0 else 0
