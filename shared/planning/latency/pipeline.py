"""The pipeline of drafting and verifying: when a cohort ends, and how long each batch's way to that end is.

Batches 1..n take turns, R rounds each. The draft node begins a draft when it is free and the batch's last verification
is over; the verifier begins when it is free and the draft has arrived. So all times are longest paths in a graph of 2·n
events a round. The steady period is Λ = max(ΣA, ΣV, max(A + V)): a circuit that mixes the two nodes takes as many
rounds as it has turns on a node, and is not longer on average than the longer of the nodes' own.
Source: Zhu, Chen, Zhao, Shin, Nallanathan, arXiv 2510.11331, pipeline-parallel serving.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.planning.bandwidth.uploads import Floats

STEADY: Final = 1e-13  # relative: a round that differs from the one before it by a constant
MAX_ROUNDS: Final = 4096  # computed one by one; later rounds take Λ each


@dataclass(frozen=True, slots=True)
class Pipeline:
    """n batches in their order, in ms [..., n]; the leading dimensions are many pipelines at once.

    draft_ms: A_j. verify_ms: V_j. link_ms: both directions between the nodes, once a round. one_drafter: one node
    drafts for all batches, in turn; else the users' devices do, all batches at once.
    """

    draft_ms: Floats
    verify_ms: Floats
    link_ms: Floats
    one_drafter: bool

    def period_ms(self) -> Floats:
        """Λ [...]: max(ΣA, ΣV, max(A + link + V)); without ΣA where devices draft."""
        loop = (self.draft_ms + self.link_ms + self.verify_ms).max(axis=-1)
        period = np.maximum(loop, self.verify_ms.sum(axis=-1))
        drafting = self.draft_ms.sum(axis=-1) if self.one_drafter else 0.0
        return np.asarray(np.maximum(period, drafting))

    def tails_ms(self, rounds: int) -> Floats:
        """w_j [..., n]: from the start of batch j's first draft to the end of all, where nothing else delays it.

        Longest paths, backwards. The cohort ends at max_j (ready_j + w_j), whatever the times ready_j at which batches
        may begin: that is what makes form 3 with offsets w_j the best sharing for given batches.
        """
        draft, verify = self._last_round()
        if rounds == 1:
            return draft
        left = rounds - 1
        for done in range(min(left, MAX_ROUNDS)):
            earlier_draft, earlier_verify = self._round_before(draft, verify)
            growth = earlier_draft - draft
            steps = np.concatenate([growth, earlier_verify - verify], axis=-1)
            draft, verify = earlier_draft, earlier_verify
            if bool((np.ptp(steps, axis=-1) <= STEADY * draft.max(axis=-1)).all()):
                return np.asarray(draft + (left - done - 1) * growth)
        return np.asarray(draft + max(0, left - MAX_ROUNDS) * self.period_ms()[..., None])

    def _last_round(self) -> tuple[Floats, Floats]:
        verify = _suffix_sums(self.verify_ms)
        return self._drafts(verify, None), verify

    def _round_before(self, draft: Floats, verify: Floats) -> tuple[Floats, Floats]:
        """Paths from the starts of drafts and verifications, given those of the next round [..., n]."""
        ahead = draft.copy()  # the batch's own next draft
        ahead[..., -1] = np.maximum(ahead[..., -1], verify[..., 0])  # the verifier's next turn
        earlier = _longest_from(self.verify_ms, ahead)
        return self._drafts(earlier, draft), earlier

    def _drafts(self, verify: Floats, next_draft: Floats | None) -> Floats:
        ahead = self.link_ms + verify
        if not self.one_drafter:
            return np.asarray(self.draft_ms + ahead)
        if next_draft is not None:
            ahead[..., -1] = np.maximum(ahead[..., -1], next_draft[..., 0])  # the draft node's next turn
        return _longest_from(self.draft_ms, ahead)

    def ends_ms(self, rounds: int, ready_ms: Floats) -> Floats:
        """Ends of all verifications [rounds, n] of one pipeline whose batches may begin at ready_ms [n]."""
        ends = np.empty((rounds, len(ready_ms)))
        free_drafter, free_verifier, ready = 0.0, 0.0, ready_ms
        for turn in range(rounds):
            if self.one_drafter:
                drafted = _ends(self.draft_ms, ready, free_drafter)
                free_drafter = float(drafted[-1])
            else:
                drafted = ready + self.draft_ms
            ends[turn] = ready = _ends(self.verify_ms, drafted + self.link_ms, free_verifier)
            free_verifier = float(ready[-1])
        return ends


def serial_ms(pipeline: Pipeline, rounds: int) -> float:
    """Without a pipeline: R·Σ(A + link + V), one batch after another, from the last upload on."""
    return rounds * float((pipeline.draft_ms + pipeline.link_ms + pipeline.verify_ms).sum())


def _longest_from(duration: Floats, ahead: Floats) -> Floats:
    """x_j = duration_j + max(ahead_j, x_(j+1)), along the last axis: the longest way through a node's queue."""
    until = np.cumsum(duration, axis=-1)
    reached = np.maximum.accumulate((until + ahead)[..., ::-1], axis=-1)[..., ::-1]
    return np.asarray(reached - (until - duration))


def _suffix_sums(duration: Floats) -> Floats:
    return np.asarray(np.cumsum(duration[..., ::-1], axis=-1)[..., ::-1])


def _ends(duration: Floats, ready: Floats, free: float) -> Floats:
    """Ends of jobs [n] on one node in their order: each begins when it is ready and the one before it has ended."""
    before = np.cumsum(duration) - duration
    start = np.maximum.accumulate(np.maximum(ready, free) - before)
    return np.asarray(start + before + duration)
