"""What a method works with, and how far a run is."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.draft_tree import Decision
from simulator.pipeline.rank_zero import RankZero
from simulator.pipeline.ring import Ring, Row, TurnRing
from simulator.pipeline.session import Session
from simulator.pipeline.timeline import Timeline


@dataclass(slots=True)
class Context:
    """A run. ends_at: tokens of all users after which it ends. emissions: (virtual time in s, tokens so far)."""

    law: PipelineLaw
    ring: Ring
    turns: TurnRing
    rank: RankZero
    sessions: Sequence[Session]
    timeline: Timeline
    ends_at: int
    emissions: list[tuple[float, int]] = field(default_factory=list)

    def done(self) -> bool:
        """Were enough tokens emitted?"""
        return bool(self.emissions) and self.emissions[-1][1] >= self.ends_at

    async def head(self, rows: Sequence[Row]) -> None:
        """Apply the head to the rows that are still alive and hand the target's tokens to their sessions."""
        alive = [row for row in rows if row.node in self.sessions[row.user].tree]
        await self.rank.head(len(alive))
        for user in {row.user for row in alive}:
            self.sessions[user].learn(alive)

    def advance(self, session: Session) -> list[Decision]:
        """Emit what is known of a session's text."""
        decisions = session.advance()
        if decisions:
            before = self.emissions[-1][1] if self.emissions else 0
            self.emissions.append((asyncio.get_running_loop().time(), before + len(decisions)))
        return decisions
