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
from shared.planning.strategies.best_strategy import Candidate, ServingQuery, alone
from shared.planning.strategies.posteriors import MOST_ALPHA
from shared.planning.strategies.user_arrays import Ints
from shared.planning.views import SessionView

WELL_KNOWN: Final = 40.0  # observations that an α is left at
EVERY: Final = 256  # tokens from one probe of a session to the next when it is well known
SHORT: Final = 1  # its length, where not even optimism has it draft


def worth_trying(asked: ServingQuery, found: Candidate) -> Ints:
    """How far each user should draft if its α were a standard deviation better, [M]; 0: not even then."""
    crew = asked.crew
    hoped = replace(asked, crew=replace(crew, alpha=np.minimum(crew.alpha + crew.doubt, MOST_ALPHA)))
    price = np.array([found.busy * found.rates.sum()])  # tokens that a millisecond of the verifier's brings
    wait_ms = 1 / np.maximum(found.rounds, 1e-9) - crew.away_ms(found.way.lengths[0])
    lengths: Ints = alone(hoped, price, np.maximum(wait_ms, 1.0)[None], np.ones(len(crew)))[0]
    return lengths


def probe(session: SessionView, plan: Plan | None) -> int:
    """What a session at k = 0 drafts now nonetheless; mostly nothing."""
    tried = plan.probes.get(session.session, 0) if plan else 0
    if session.known + session.seen < WELL_KNOWN:
        return tried
    return max(tried, SHORT) if session.length % EVERY == 0 else 0
