"""Rank 0's compute: the drafter and the output head, one pass at a time."""

import asyncio

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.timeline import Pass, Timeline


class RankZero:
    """Modelled passes on the running loop's clock. A method waits for each, so that they never overlap."""

    def __init__(self, law: PipelineLaw, timeline: Timeline) -> None:
        self._law, self._timeline = law, timeline

    async def head(self, rows: int) -> None:
        """Apply the output head to rows that returned."""
        await self._spend(self._law.head.pass_ms(rows), rows, "head")

    async def draft(self, rows: int) -> None:
        """One pass of the drafter, over so many nodes."""
        await self._spend(self._law.draft_ms + self._law.draft_row_ms * rows, rows, "draft")

    async def _spend(self, ms: float, rows: int, what: str) -> None:
        if ms <= 0.0:
            return
        begin = asyncio.get_running_loop().time()
        await asyncio.sleep(ms / 1e3)
        self._timeline.passes.append(Pass(0, begin, begin + ms / 1e3, rows, 0, what))
