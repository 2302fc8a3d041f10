"""What a method sees of a pipeline: pieces go down in order, and come back in the same order.

Rank 0 is the caller. A ring may be modelled on virtual time or made of processes; a method reads the clock of the
running loop and nothing else, so that it runs on both.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from simulator.pipeline.draft_tree import Decision


class Row(NamedTuple):
    """A node on its way through the stages: what a stage has to know of it."""

    user: int
    node: int
    parent: int
    token: int
    position: int


class Ring(Protocol):
    """A first-in-first-out pipeline of stages that begins and ends at rank 0."""

    def send(self, rows: Sequence[Row]) -> None:
        """Send a piece down. A row's parent is in the piece before it, in an earlier piece, or was committed."""

    def decided(self, user: int, decision: Decision) -> None:
        """Announce a decision. A stage that has heard of it leaves dead rows out of the passes it has not begun."""

    def ready(self) -> bool:
        """Has a piece returned that was not received yet?"""

    async def receive(self) -> Sequence[Row]:
        """The next piece, in the order of sending, with the rows that all stages computed. Waits for it."""

    async def wait(self, until: float) -> None:
        """Return when a piece is ready, at the latest when the loop's clock shows `until` (seconds; may be inf)."""


class TurnRing(Protocol):
    """A pipeline in lock-step: all stages compute what they hold, then everything moves on by one stage."""

    def begin(self) -> None:
        """Let every stage compute the piece it holds. Ends with `end`."""

    async def end(self, rows: Sequence[Row]) -> Sequence[Row] | None:
        """End the turn: `rows` are the first stage's next piece. Returns the last stage's piece, None without one."""

    def decided(self, user: int, decision: Decision) -> None:
        """Remove a decision's dead rows from the pieces that stages hold. Between turns."""
