"""A pipeline of modelled stages on the running loop's clock. Links do not queue, but keep the order of messages."""

import asyncio
from collections.abc import Sequence
from math import ceil
from typing import Final

from shared.planning.pieces import PipelineLaw
from simulator.pipeline.draft_tree import Decision
from simulator.pipeline.laws import ROW_BYTES
from simulator.pipeline.returned import Returned
from simulator.pipeline.ring import Row
from simulator.pipeline.timeline import Pass, Timeline

HEADER_BYTES: Final = 32  # of any message
ID_BYTES: Final = 12  # of a row on the first hop, and of a decision


class ModelledRing:
    """See ring.Ring. Use as `async with`: the stages are tasks."""

    def __init__(self, law: PipelineLaw, timeline: Timeline, between_layers: bool = True) -> None:
        self._law, self._timeline = law, timeline
        self._inboxes: list[asyncio.Queue[list[Row]]] = [asyncio.Queue() for _ in law.stages]
        self._last_arrivals = [0.0] * (len(law.stages) + 1)  # on each link
        self._returned = Returned()
        self._dead: dict[tuple[int, int], float] = {}  # when rank 0 announced the death of a row under way
        self._under_way: set[tuple[int, int]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._layers = law.layers if between_layers else 1
        self._heard = [asyncio.Event() for _ in law.stages]  # of a decision, or of the pass's end

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
        loop = asyncio.get_running_loop()
        dead = [(user, node) for node in decision.dead if (user, node) in self._under_way]
        self._dead.update(dict.fromkeys(dead, loop.time()))
        if dead and self._layers > 1:
            for stage, heard in enumerate(self._heard):
                loop.call_later((stage + 1) * self._law.hop_ms / 1e3, heard.set)
        self._timeline.messages += len(self._inboxes)
        self._timeline.bytes += len(self._inboxes) * (HEADER_BYTES + ID_BYTES)

    def ready(self) -> bool:
        """See Ring.ready."""
        return self._returned.ready()

    async def receive(self) -> Sequence[Row]:
        """See Ring.receive."""
        return await self._returned.receive()

    async def wait(self, until: float) -> None:
        """See Ring.wait."""
        await self._returned.wait(until)

    def _forward(self, to: int, rows: list[Row], ms: float, row_bytes: int) -> None:
        """Let a piece arrive at a stage (from 0), or at rank 0 behind the last one, after so many ms."""
        self._timeline.messages += 1
        self._timeline.bytes += HEADER_BYTES + row_bytes * len(rows)
        loop = asyncio.get_running_loop()
        at = self._last_arrivals[to] = max(self._last_arrivals[to], loop.time() + ms / 1e3)
        if to < len(self._inboxes):
            loop.call_at(at, self._inboxes[to].put_nowait, rows)
        else:
            loop.call_at(at, self._return, rows)

    def _return(self, rows: list[Row]) -> None:
        for row in rows:
            self._under_way.discard((row.user, row.node))
            self._dead.pop((row.user, row.node), None)
        self._returned.add(rows)

    async def _run(self, stage: int) -> None:
        """One stage: pass after pass."""
        loop, law, inbox = asyncio.get_running_loop(), self._law, self._inboxes[stage]
        while True:
            rows = await inbox.get()
            begin = loop.time()
            alive = self._alive(rows, stage)
            if alive:
                alive = await self._compute(stage, alive)
                dropped = len(rows) - len(alive)
                self._timeline.passes.append(Pass(stage + 1, begin, loop.time(), len(alive), dropped))
            self._forward(stage + 1, alive, law.hop_ms + law.wire_ms * len(alive), ROW_BYTES)

    async def _compute(self, stage: int, rows: list[Row]) -> list[Row]:
        """A pass, layer by layer in so far as decisions arrive; the rows that were alive to its end."""
        loop, law, heard = asyncio.get_running_loop(), self._law, self._heard[stage]
        layers, left = self._layers, self._layers
        while left and rows:
            layer_s = law.stages[stage].pass_ms(len(rows)) / 1e3 / layers
            began = loop.time()
            heard.clear()
            timer = loop.call_later(left * layer_s, heard.set)
            await heard.wait()
            timer.cancel()
            done = min(left, ceil((loop.time() - began) / layer_s - 1e-6))
            await asyncio.sleep(max(0.0, began + done * layer_s - loop.time()))  # the layer that was begun
            left -= done
            if left:
                rows = self._alive(rows, stage)
        return rows

    def _alive(self, rows: list[Row], stage: int) -> list[Row]:
        """The rows of whose death the stage has not heard; the others are no longer under way."""
        announced = asyncio.get_running_loop().time() - (stage + 1) * self._law.hop_ms / 1e3 + 1e-9
        never = float("inf")
        alive = [row for row in rows if self._dead.get((row.user, row.node), never) > announced]
        if len(alive) < len(rows):
            for row in set(rows).difference(alive):
                del self._dead[row.user, row.node]
                self._under_way.discard((row.user, row.node))
        return alive
