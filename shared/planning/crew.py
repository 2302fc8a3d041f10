"""Sessions as the planners take them: what a view says of a user, within what a planner can bear."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.problem import User
from shared.planning.views import SessionView

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_ALPHA: Final = 0.995
LEAST_DRAFT_MS: Final = 1e-3
FEW: Final = 4  # sessions whose differences say nothing
NEVER_MS: Final = 1e9  # a token of a device that cannot draft


def users_of(views: Sequence[SessionView]) -> list[User]:
    """Sessions as DiP-SD has them. One that cannot draft drafts too slowly for any plan."""
    return [_user(view, alpha) for view, alpha in zip(views, alphas(views), strict=True)]


def alphas(views: Sequence[SessionView]) -> list[float]:
    """Everybody's α, drawn to the mean as far as the differences may be chance (James and Stein's estimator).

    A planner makes the most of differences; those of estimates that rest on a few dozen observations are mostly luck.
    The variance v of the estimates is that between sessions, t, and that of counting, s = a·(1 − a) / n on average: so
    each is drawn to the mean by s / (t + s).
    """
    raw = np.clip([view.alpha for view in views], 0.0, MOST_ALPHA)
    if len(raw) < FEW:
        return [float(alpha) for alpha in raw]
    weight = np.array([view.seen for view in views])
    mean = float(np.average(raw, weights=weight))
    chance = mean * (1 - mean) / weight
    between = max(0.0, float(raw.var(ddof=1) - chance.mean()))
    drawn = raw + (mean - raw) * chance / (between + chance)
    return [float(alpha) for alpha in drawn]


def _user(view: SessionView, alpha: float) -> User:
    return User(
        id=view.session,
        alpha=alpha,
        prefix=view.length,
        draft_ms=max(1e3 * view.draft_s_per_token, LEAST_DRAFT_MS) if view.can_draft else NEVER_MS,
        comm_ms=1e3 * view.link_s,
    )


@dataclass(frozen=True, slots=True)
class Crew:
    """M users as arrays [M]. most: draft length at most; spread_ms: how much later than the earliest a draft is, on
    average: the part of comm_ms that varies."""

    alpha: Floats
    prefix: Floats
    draft_ms: Floats
    comm_ms: Floats
    spread_ms: Floats
    most: Ints

    @classmethod
    def of(cls, views: Sequence[SessionView], max_draft: int) -> "Crew":
        """Of sessions in this order."""
        users = users_of(views)
        spread = np.array([1e3 * view.spread_s for view in views])
        comm = np.array([user.comm_ms for user in users])
        return cls(
            alpha=np.array([user.alpha for user in users]),
            prefix=np.array([float(user.prefix) for user in users]),
            draft_ms=np.array([user.draft_ms for user in users]),
            comm_ms=comm,
            spread_ms=np.minimum(spread, comm),
            most=np.array([max_draft if view.can_draft else 0 for view in views]),
        )

    def __len__(self) -> int:
        return len(self.alpha)

    def emitted(self, lengths: Ints) -> Floats:
        """u(l), for lengths [..., M]."""
        grown: Floats = (1 - self.alpha ** (lengths + 1)) / (1 - self.alpha)
        return grown

    def away_ms(self, lengths: Ints) -> Floats:
        """From a verdict to the draft's arrival, on average; nothing for k = 0, which never leaves."""
        gone: Floats = np.where(lengths > 0, lengths * self.draft_ms + self.comm_ms, 0.0)
        return gone
