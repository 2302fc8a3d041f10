"""A modelled pipeline in lock-step. A turn lasts as long as its slowest stage with a hop before and behind it."""

import asyncio
from collections.abc import Sequence

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.draft_tree import Decision
from simulator.pipeline.laws import ROW_BYTES
from simulator.pipeline.modelled_ring import HEADER_BYTES, ID_BYTES
from simulator.pipeline.ring import Row
from simulator.pipeline.timeline import Pass, Timeline


class LockStepRing:
    """See ring.TurnRing. A turn lasts max(2 hops + slowest stage, what rank 0 does meanwhile + 1 hop)."""

    def __init__(self, law: PipelineLaw, timeline: Timeline) -> None:
        self._law, self._timeline = law, timeline
        self._held: list[list[Row] | None] = [None] * len(law.stages)
        self._began = 0.0

    def begin(self) -> None:
        """See TurnRing.begin."""
        self._began = asyncio.get_running_loop().time()

    async def end(self, rows: Sequence[Row]) -> Sequence[Row] | None:
        """See TurnRing.end."""
        loop, law = asyncio.get_running_loop(), self._law
        slowest = 0.0
        for at, (stage, held) in enumerate(zip(law.stages, self._held, strict=True)):
            if held:
                begin, ms = self._began + law.hop_ms / 1e3, stage.pass_ms(len(held))
                self._timeline.passes.append(Pass(at + 1, begin, begin + ms / 1e3, len(held), 0))
                self._timeline.messages += 1
                self._timeline.bytes += HEADER_BYTES + ROW_BYTES * len(held)
                slowest = max(slowest, ms)
        over = max(self._began + (2 * law.hop_ms + slowest) / 1e3, loop.time() + law.hop_ms / 1e3)
        await asyncio.sleep(over - loop.time())
        returned = self._held.pop()
        self._held.insert(0, list(rows) or None)
        if rows:
            self._timeline.messages += 1
            self._timeline.bytes += HEADER_BYTES + ID_BYTES * len(rows)
        return returned

    def decided(self, user: int, decision: Decision) -> None:
        """See TurnRing.decided."""
        dead = set(decision.dead)
        self._held = [
            [row for row in held if row.user != user or row.node not in dead] or None if held else None
            for held in self._held
        ]
        self._timeline.messages += len(self._held)
        self._timeline.bytes += len(self._held) * (HEADER_BYTES + ID_BYTES)
