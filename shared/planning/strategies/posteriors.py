"""Posteriors of α: each session's own observations, shrunk towards what was expected of it.

A planner exploits differences, and differences between estimates from a few dozen observations are mostly chance. So
the n own observations of a session are weighed against its prior, which counts for p observations. The less sessions
differ, the larger is p. The method is empirical Bayes by moments (James and Stein's estimator where all sessions have
equally many observations). The distances of estimates from priors have the variance τ² between sessions plus the
counting variance a·(1 − a) / n. From τ² follows p = a·(1 − a) / τ². An error that all priors share is corrected for
all sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.views import SessionView

MAX_ALPHA: Final = 0.995
USUAL_OBSERVATIONS: Final = 64.0  # observations that the usual τ², that of p = prior_weight, counts for


@dataclass(frozen=True, slots=True)
class Posteriors:
    """alpha: [M], in [0, MOST_ALPHA]; doubt: its standard deviation, [M]."""

    alpha: npt.NDArray[np.float64]
    alpha_std: npt.NDArray[np.float64]

    @classmethod
    def of(cls, views: Sequence[SessionView]) -> "Posteriors":
        """The posteriors of these sessions, in this order."""
        seen = np.array([view.seen for view in views])
        expected = np.clip([view.expected_alpha for view in views], 0.0, MAX_ALPHA)
        estimate = np.clip([view.alpha for view in views], 0.0, MAX_ALPHA)
        known = np.array([view.prior_weight for view in views])
        share = seen / (seen + known)  # of the own observations in an estimate
        off = np.divide(estimate - expected, share, out=np.zeros(len(views)), where=seen > 0)
        together = float((seen * off).sum() / (seen.sum() + known.mean()))
        middle = np.clip(expected + together, 0.0, MAX_ALPHA)
        counting = middle * (1 - middle)
        usual = max(float((counting / known).mean()), 1e-6)
        moments = seen * (off - together) ** 2 - np.where(seen > 0, counting, 0.0)
        between = (USUAL_OBSERVATIONS * usual + float(moments.sum())) / (
            USUAL_OBSERVATIONS + float(seen.sum())
        )
        before = counting / max(between, 1e-2 * usual)
        alpha = np.clip(middle + (off - together) * seen / (seen + before + 1e-9), 0.0, MAX_ALPHA)
        return cls(alpha, np.sqrt(alpha * (1 - alpha) / (seen + before + 1e-9)))
