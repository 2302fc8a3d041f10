"""`flowspec`: the core drafts trees that fill the stages of a pipeline (FlowSpec, arXiv 2507.02620).

A verifier in one process drafts the same number of tokens in every row instead, as under `fused`.
"""

from shared.planning.views import SessionView
from shared.planning.windows.window import Decision, Load, RoundOutcome


class FlowSpec:
    """Trees for every session; the verifier itself weighs their nodes against each other."""

    name = "flowspec"

    def __init__(self, k: int) -> None:
        self._k = k

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Nothing is learnt."""

    def decide(self, session: SessionView, load: Load) -> Decision:
        """A tree at the core."""
        return Decision.grow(self._k, "core")

    def forget(self, session: str) -> None:
        """Nothing is held."""


def make(k: int) -> FlowSpec:
    """Make the controller, for the registry."""
    return FlowSpec(k)
