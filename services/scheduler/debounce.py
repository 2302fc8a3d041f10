"""Who comes and goes does so in bursts, and whoever ends is often followed at once: planning waits until it is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.planning.views import SessionView

QUIET_S: Final = 0.5  # nobody has come or gone for so long
MAX_WAIT_S: Final = 3.0  # but a plan does not wait longer than this


@dataclass(slots=True)
class Debounce:
    """Sessions that come and go, and that begin or cease to be able to draft."""

    who: frozenset[tuple[str, bool]] = frozenset()
    since: float = 0.0  # it has been these
    plan_stale_since: float | None = None  # they have not been those of the plan

    def should_wait(self, views: Sequence[SessionView], planned: bool, now: float) -> bool:
        """Whether to wait until they have settled. planned: it is these that were planned for."""
        who = frozenset((view.session, view.can_draft) for view in views)
        if who != self.who:
            self.who, self.since = who, now
        if planned:
            self.plan_stale_since = None
            return False
        if self.plan_stale_since is None:
            self.plan_stale_since = now
        return now - self.since < QUIET_S and now - self.plan_stale_since < MAX_WAIT_S
