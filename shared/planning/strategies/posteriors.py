"""What is believed of everybody's α, from what was seen of each and of all.

A planner makes the most of differences; those of estimates that rest on a few dozen observations are mostly luck. So
each session's own observations, n of them, are weighed against what was expected of it before, which counts p: the
fewer, the more sessions differ. By the moments of all of them (empirical Bayes; James and Stein's estimator where all
know as much): how far they are from what was expected is the variance τ² between sessions and that of counting,
a·(1 − a) / n, and p = a·(1 − a) / τ². What all are off by together is everybody's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.views import SessionView

MAX_ALPHA: Final = 0.995
PRIOR_OBSERVATIONS: Final = 64.0  # observations that the usual τ² counts: that of p = known


@dataclass(frozen=True, slots=True)
class Posteriors:
    """alpha: [M], in [0, MOST_ALPHA]; doubt: its standard deviation, [M]."""

    alpha: npt.NDArray[np.float64]
    alpha_std: npt.NDArray[np.float64]

    @classmethod
    def of(cls, views: Sequence[SessionView]) -> "Posteriors":
        """Of sessions in this order."""
        seen = np.array([view.seen for view in views])
        expected = np.clip([view.expected_alpha for view in views], 0.0, MAX_ALPHA)
        estimate = np.clip([view.alpha for view in views], 0.0, MAX_ALPHA)
        known = np.array([view.prior_weight for view in views])
        share = seen / (seen + known)  # of its observations in an estimate
        off = np.divide(estimate - expected, share, out=np.zeros(len(views)), where=seen > 0)
        together = float((seen * off).sum() / (seen.sum() + known.mean()))
        middle = np.clip(expected + together, 0.0, MAX_ALPHA)
        counting = middle * (1 - middle)
        usual = max(float((counting / known).mean()), 1e-6)
        moments = seen * (off - together) ** 2 - np.where(seen > 0, counting, 0.0)
        between = (PRIOR_OBSERVATIONS * usual + float(moments.sum())) / (
            PRIOR_OBSERVATIONS + float(seen.sum())
        )
        before = counting / max(between, 1e-2 * usual)
        alpha = np.clip(middle + (off - together) * seen / (seen + before + 1e-9), 0.0, MAX_ALPHA)
        return cls(alpha, np.sqrt(alpha * (1 - alpha) / (seen + before + 1e-9)))
