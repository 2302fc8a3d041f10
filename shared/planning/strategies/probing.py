"""Who drafts for a while although the plan has it at k = 0: whose α is not known well enough to leave it at that.

A session that does not draft teaches nobody anything, and what is believed of it at first is what others were like.
So as long as little is known of it, it drafts as it would if it were a little better than believed (by a standard
deviation of what is known): optimism in the face of uncertainty. If it is, the plan learns that and changes; if not,
its uncertainty shrinks and it is left alone but for a probe now and then.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from shared.planning.policy import Plan
from shared.planning.strategies.best_strategy import Candidate, ServingQuery, individual_lengths
from shared.planning.strategies.posteriors import MAX_ALPHA
from shared.planning.strategies.user_arrays import Ints
from shared.planning.views import SessionView

KNOWN_OBSERVATIONS: Final = 40.0  # observations that an α is left at
PROBE_INTERVAL_TOKENS: Final = 256  # tokens from one probe of a session to the next when it is well known
PROBE_LENGTH: Final = 1  # its length, where not even optimism has it draft


def probe_lengths(query: ServingQuery, candidate: Candidate) -> Ints:
    """How far each user should draft if its α were a standard deviation better, [M]; 0: not even then."""
    user_arrays = query.user_arrays
    optimistic = replace(
        query,
        user_arrays=replace(
            user_arrays, alpha=np.minimum(user_arrays.alpha + user_arrays.alpha_std, MAX_ALPHA)
        ),
    )
    price = np.array(
        [candidate.busy * candidate.rates.sum()]
    )  # tokens that a millisecond of the verifier's brings
    wait_ms = 1 / np.maximum(candidate.rounds, 1e-9) - user_arrays.away_ms(candidate.strategy.lengths[0])
    lengths: Ints = individual_lengths(
        optimistic, price, np.maximum(wait_ms, 1.0)[None], np.ones(len(user_arrays))
    )[0]
    return lengths


def probe(session: SessionView, plan: Plan | None) -> int:
    """What a session at k = 0 drafts now nonetheless; mostly nothing."""
    planned_probe = plan.probes.get(session.session, 0) if plan else 0
    if session.prior_weight + session.seen < KNOWN_OBSERVATIONS:
        return planned_probe
    return max(planned_probe, PROBE_LENGTH) if session.length % PROBE_INTERVAL_TOKENS == 0 else 0
