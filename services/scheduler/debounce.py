"""Debounces planning: sessions start and end in bursts, so planning waits until a burst is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.planning.views import SessionView

QUIET_S: Final = 0.5  # a burst is over when the sessions have not changed for this long
MAX_WAIT_S: Final = 3.0  # a plan is never delayed longer than this


@dataclass(slots=True)
class Debounce:
    """Watches the set of sessions and which of them can draft."""

    who: frozenset[tuple[str, bool]] = frozenset()
    since: float = 0.0  # time of the last change of `who`
    plan_stale_since: float | None = None  # since when the plan is for other sessions; None = it is not

    def should_wait(self, views: Sequence[SessionView], planned: bool, now: float) -> bool:
        """Whether planning should wait. planned: the current plan is for exactly these sessions."""
        who = frozenset((view.session, view.can_draft) for view in views)
        if who != self.who:
            self.who, self.since = who, now
        if planned:
            self.plan_stale_since = None
            return False
        if self.plan_stale_since is None:
            self.plan_stale_since = now
        return now - self.since < QUIET_S and now - self.plan_stale_since < MAX_WAIT_S
