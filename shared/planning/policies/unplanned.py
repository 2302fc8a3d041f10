"""What policies have in common that decide everything as they go."""

from collections.abc import Sequence

from shared.planning.policy import Plan
from shared.planning.problem import Server
from shared.planning.views import SessionView


class Unplanned:
    """Half a Policy: it never plans."""

    plans = False

    def plan(
        self, sessions: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """See Policy.plan."""
        return None
