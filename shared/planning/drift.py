"""Drift: whether the inputs of a plan have changed so far that another plan may be better."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.planning.problem import Server
from shared.planning.strategies.user_arrays import UserArrays
from shared.planning.views import SessionView

MAX_ALPHA_CHANGE: Final = 0.06  # absolute
MAX_SHARE_CHANGE: Final = 0.2  # relative, of a draft or link time
MAX_PASS_CHANGE: Final = 0.1  # relative, of the pass time, which affects all users
MAX_PROMPT_CHANGE: Final = 0.05  # absolute, of the prompts' share of the verifier's time
MIN_CHANGE_MS: Final = 2.0  # smaller changes of a time are ignored


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """The inputs of a plan.

    able: the sessions that can draft. order: all sessions, as in user_arrays. cost_ms: of a pass with one token a row,
    and of one with four more a row. prompts: their share of the verifier's time.
    """

    sessions: frozenset[str]
    able: frozenset[str]
    user_arrays: UserArrays
    order: tuple[str, ...]
    cost_ms: tuple[float, float]
    prompts: float

    @classmethod
    def of(cls, views: Sequence[SessionView], server: Server) -> "PlanInputs":
        """The inputs for these sessions, in this order."""
        user_arrays = UserArrays.of(views, 1)
        rows, prefixes = float(len(views)), float(user_arrays.prefix.sum())
        longest = float(user_arrays.prefix.max()) if len(views) else 0.0
        costs = [float(server.verify_ms(rows, k, k * rows, longest, prefixes)) for k in (0.0, 4.0)]
        return cls(
            sessions=frozenset(view.session for view in views),
            able=frozenset(view.session for view in views if view.can_draft),
            user_arrays=user_arrays,
            order=tuple(view.session for view in views),
            cost_ms=(costs[0], costs[1]),
            prompts=server.prompts.share,
        )

    def same_sessions(self, views: Sequence[SessionView]) -> bool:
        """Whether the sessions are the same and the same ones can draft."""
        able = {view.session for view in views if view.can_draft}
        return self.able == able and self.sessions == {view.session for view in views}

    def drifted(self, now: "PlanInputs") -> bool:
        """Whether estimates of the same sessions have changed so far that another plan may be better."""
        if self.order != now.order or any(
            abs(a - b) > MAX_PASS_CHANGE * a for a, b in zip(self.cost_ms, now.cost_ms, strict=True)
        ):
            return True
        if abs(self.prompts - now.prompts) > MAX_PROMPT_CHANGE:
            return True
        before, after = self.user_arrays, now.user_arrays
        if (abs(before.alpha - after.alpha) > MAX_ALPHA_CHANGE).any():
            return True
        return any(
            (abs(a - b) > MAX_SHARE_CHANGE * a + MIN_CHANGE_MS).any()
            for a, b in (
                (4 * before.draft_ms, 4 * after.draft_ms),
                (before.comm_ms, after.comm_ms),
                (before.spread_ms, after.spread_ms),
            )
        )
