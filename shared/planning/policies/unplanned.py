"""Base of policies without plans, which decide from the state of the sessions alone."""

from collections.abc import Sequence

from shared.planning.policy import Plan
from shared.planning.problem import Server
from shared.planning.views import SessionView


class Unplanned:
    """The part of a Policy that concerns plans and trees: there are none."""

    plans = False
    trees = False

    def plan(
        self, sessions: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """None: this policy has no plans."""
        return None
