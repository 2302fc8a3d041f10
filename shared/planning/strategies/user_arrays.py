"""Users for the planners, made from session views, with values within the planners' limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.problem import User
from shared.planning.strategies.posteriors import Posteriors
from shared.planning.views import SessionView

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_DRAFT_MS: Final = 1e-3
# Tokens by which a session grows until the next plan, about. Plans are made for the middle of that time.
GROWTH_TOKENS: Final = 192
NEVER_MS: Final = 1e9  # per token, of a device that cannot draft


def users_of(views: Sequence[SessionView]) -> list[User]:
    """Sessions as users of the DiP-SD model. A session that cannot draft is too slow for any plan to use."""
    return _users(views, Posteriors.of(views))


def _users(views: Sequence[SessionView], posteriors: Posteriors) -> list[User]:
    return [_user(view, alpha) for view, alpha in zip(views, posteriors.alpha.tolist(), strict=True)]


def _user(view: SessionView, alpha: float) -> User:
    return User(
        id=view.session,
        alpha=alpha,
        prefix=view.length + min(view.remaining, GROWTH_TOKENS) // 2,
        draft_ms=max(1e3 * view.draft_s_per_token, MIN_DRAFT_MS) if view.can_draft else NEVER_MS,
        comm_ms=1e3 * view.link_s,
    )


@dataclass(frozen=True, slots=True)
class UserArrays:
    """M users as arrays [M].

    spread_ms: the part of comm_ms that varies, as the mean delay beyond the earliest arrival. max_lengths: draft length
    at most. alpha_std: standard deviation of the estimate of alpha.
    """

    alpha: Floats
    prefix: Floats
    draft_ms: Floats
    comm_ms: Floats
    spread_ms: Floats
    max_lengths: Ints
    alpha_std: Floats

    @classmethod
    def of(cls, views: Sequence[SessionView], max_draft: int) -> "UserArrays":
        """The users of these sessions, in this order."""
        posteriors = Posteriors.of(views)
        users = _users(views, posteriors)
        spread = np.array([1e3 * view.spread_s for view in views])
        comm = np.array([user.comm_ms for user in users])
        return cls(
            alpha=posteriors.alpha,
            prefix=np.array([float(user.prefix) for user in users]),
            draft_ms=np.array([user.draft_ms for user in users]),
            comm_ms=comm,
            spread_ms=np.minimum(spread, comm),
            max_lengths=np.array([max_draft if view.can_draft else 0 for view in views]),
            alpha_std=posteriors.alpha_std,
        )

    def __len__(self) -> int:
        return len(self.alpha)

    def emitted(self, lengths: Ints) -> Floats:
        """u(l): expected tokens of a round, for lengths [..., M]."""
        tokens: Floats = (1 - self.alpha ** (lengths + 1)) / (1 - self.alpha)
        return tokens

    def away_ms(self, lengths: Ints) -> Floats:
        """Mean milliseconds from a verdict to the draft's arrival, for lengths [..., M]; 0 for k = 0."""
        away: Floats = np.where(lengths > 0, lengths * self.draft_ms + self.comm_ms, 0.0)
        return away
