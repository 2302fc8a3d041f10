"""A pipeline of modelled stages on the running loop's clock. Links do not queue."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from shared.planning.pieces import PipelineLaw
from shared.speculative.draft_tree import Decision
from simulator.pipeline.laws import ROW_BYTES
from simulator.pipeline.ring import Row
from simulator.pipeline.timeline import Pass, Timeline

HEADER_BYTES: Final = 32  # of any message
ID_BYTES: Final = 12  # of a row on the first hop, and of a decision


class ModelledRing:
    """See ring.Ring. Use as `async with`: the stages are tasks."""

    def __init__(self, law: PipelineLaw, timeline: Timeline) -> None:
        self._law, self._timeline = law, timeline
        self._inboxes: list[asyncio.Queue[list[Row]]] = [asyncio.Queue() for _ in law.stages]
        self._returned: deque[list[Row]] = deque()
        self._arrival = asyncio.Event()
        self._dead: dict[tuple[int, int], float] = {}  # when rank 0 announced the death of a row under way
        self._under_way: set[tuple[int, int]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "ModelledRing":
        self._tasks = [
            asyncio.create_task(self._run(stage), name=f"stage {stage + 1}")
            for stage in range(len(self._inboxes))
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def send(self, rows: Sequence[Row]) -> None:
        """See Ring.send."""
        self._under_way.update((row.user, row.node) for row in rows)
        self._forward(0, list(rows), self._law.hop_ms, ID_BYTES)

    def decided(self, user: int, decision: Decision) -> None:
        """See Ring.decided. The announcement overtakes pieces that wait for a stage."""
        now = asyncio.get_running_loop().time()
        for node in decision.dead:
            if (user, node) in self._under_way:
                self._dead[user, node] = now
        self._timeline.messages += len(self._inboxes)
        self._timeline.bytes += len(self._inboxes) * (HEADER_BYTES + ID_BYTES)

    def ready(self) -> bool:
        """See Ring.ready."""
        return bool(self._returned)

    async def receive(self) -> Sequence[Row]:
        """See Ring.receive."""
        while not self._returned:
            self._arrival.clear()
            await self._arrival.wait()
        return self._returned.popleft()

    async def wait(self, until: float) -> None:
        """See Ring.wait."""
        if self._returned:
            return
        self._arrival.clear()
        loop = asyncio.get_running_loop()
        timer = loop.call_at(until, self._arrival.set) if until < float("inf") else None
        await self._arrival.wait()
        if timer is not None:
            timer.cancel()

    def _forward(self, to: int, rows: list[Row], ms: float, row_bytes: int) -> None:
        """Let a piece arrive at a stage (from 0), or at rank 0 behind the last one, after so many ms."""
        self._timeline.messages += 1
        self._timeline.bytes += HEADER_BYTES + row_bytes * len(rows)
        loop = asyncio.get_running_loop()
        if to < len(self._inboxes):
            loop.call_later(ms / 1e3, self._inboxes[to].put_nowait, rows)
        else:
            loop.call_later(ms / 1e3, self._return, rows)

    def _return(self, rows: list[Row]) -> None:
        for row in rows:
            self._under_way.discard((row.user, row.node))
            self._dead.pop((row.user, row.node), None)
        self._returned.append(rows)
        self._arrival.set()

    async def _run(self, stage: int) -> None:
        """One stage: pass after pass."""
        loop, law, inbox = asyncio.get_running_loop(), self._law, self._inboxes[stage]
        while True:
            rows = await inbox.get()
            begin = loop.time()
            alive = self._alive(rows, begin - (stage + 1) * law.hop_ms / 1e3)
            if alive:
                await asyncio.sleep(law.stages[stage].pass_ms(len(alive)) / 1e3)
                dropped = len(rows) - len(alive)
                self._timeline.passes.append(Pass(stage + 1, begin, loop.time(), len(alive), dropped))
            self._forward(stage + 1, alive, law.hop_ms + law.wire_ms * len(alive), ROW_BYTES)

    def _alive(self, rows: list[Row], announced: float) -> list[Row]:
        """The rows whose death was not announced by then; the others are no longer under way."""
        never = float("inf")
        alive = [row for row in rows if self._dead.get((row.user, row.node), never) > announced]
        if len(alive) < len(rows):
            for row in set(rows).difference(alive):
                del self._dead[row.user, row.node]
                self._under_way.discard((row.user, row.node))
        return alive
