"""Rank 0's end of a live pipeline: both kinds of ring, free and in lock-step, over links to real processes."""

import asyncio
from collections.abc import Coroutine, Sequence
from statistics import median
from typing import Any, Final, TypeVar

from cli.bench.pipeline.live.hidden import check, to_tensor
from cli.bench.pipeline.live.packets import Decided, End, Piece, Report, Turn, TurnOver
from cli.bench.pipeline.live.ports import CountingOutbound, Receiver, Sender, alongside
from services.verifier.stages.link import Inbound
from shared.planning.pieces import PipelineLaw
from simulator.pipeline.draft_tree import Decision
from simulator.pipeline.returned import Returned
from simulator.pipeline.ring import Row
from simulator.pipeline.timeline import Timeline

T = TypeVar("T")
PROBES: Final = 25  # messages that measure a hop
PROBE_S: Final = 0.02  # between them
CONTROL_S: Final = 120.0  # for a report to come around, behind the pieces that are under way


class LiveRing:
    """See ring.Ring and ring.TurnRing. `serving` runs its links; one ring at a time sends and receives on them."""

    def __init__(self, law: PipelineLaw, inbound: Inbound, outbound: CountingOutbound) -> None:
        self._stages = len(law.stages)
        self._receiver = Receiver(inbound, law.hop_ms, law.wire_ms)
        self._sender = Sender(outbound)
        self._returned = Returned()
        self._over = asyncio.Event()  # a turn, a report or the end came around
        self._report = Report()
        self._counted = (0, 0)

    async def serving(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which uses the ring. Raises LinkBroken, RingMessageError."""
        return await alongside(work, self._read(), self._receiver.run(), self._sender.run())

    async def _read(self) -> None:
        while True:
            packet = await self._receiver.next()
            match packet:
                case Piece():
                    check(to_tensor(packet.hidden, len(packet.rows)), packet.rows, self._stages)
                    self._returned.add(packet.rows)
                case Report():
                    self._report = packet
                    self._over.set()
                case _:
                    self._over.set()

    # --- Ring ---------------------------------------------------------------------------------------
    def send(self, rows: Sequence[Row]) -> None:
        """See Ring.send."""
        self._sender.post(Piece(tuple(rows)))

    def decided(self, user: int, decision: Decision) -> None:
        """See Ring.decided and TurnRing.decided."""
        self._sender.post(Decided(user, decision.root))

    def ready(self) -> bool:
        """See Ring.ready."""
        return self._returned.ready()

    async def receive(self) -> Sequence[Row]:
        """See Ring.receive."""
        return await self._returned.receive()

    async def wait(self, until: float) -> None:
        """See Ring.wait."""
        await self._returned.wait(until)

    # --- TurnRing -----------------------------------------------------------------------------------
    def begin(self) -> None:
        """See TurnRing.begin."""
        self._sender.post(Turn())

    async def end(self, rows: Sequence[Row]) -> Sequence[Row] | None:
        """See TurnRing.end."""
        if rows:
            self._sender.post(Piece(tuple(rows), held=True))
        await self._around(TurnOver())
        return self._returned.take()

    # --- runs ---------------------------------------------------------------------------------------
    async def measure_hop(self) -> float:
        """Time of a hop in ms: median of messages around the idle ring. Raises TimeoutError."""
        loop, hops = asyncio.get_running_loop(), []
        async with asyncio.timeout(CONTROL_S):
            for _ in range(PROBES):
                began = loop.time()
                await self._around(TurnOver())
                hops.append(1e3 * (loop.time() - began) / (self._stages + 1))
                await asyncio.sleep(PROBE_S)
        await self.finish(Timeline(self._stages))  # these messages belong to no run
        return median(hops)

    async def finish(self, timeline: Timeline) -> None:
        """End a run: let all that is under way come back, and add what the ranks did. Raises TimeoutError."""
        await self._sender.flush()
        messages, size = self._counted
        sent = self._sender.messages - messages, self._sender.bytes - size
        async with asyncio.timeout(CONTROL_S):
            await self._around(Report())
            await self._sender.flush()
        self._counted = self._sender.messages, self._sender.bytes
        self._returned.clear()
        timeline.passes.extend(self._report.passes)
        timeline.passes.sort(key=lambda one: one.end)
        timeline.messages += sent[0] + self._report.messages
        timeline.bytes += sent[1] + self._report.bytes

    async def close(self) -> None:
        """Let the stages end. Raises TimeoutError."""
        async with asyncio.timeout(CONTROL_S):
            await self._around(End())

    async def _around(self, packet: TurnOver | Report | End) -> None:
        """Send a packet around the ring and wait for it."""
        self._over.clear()
        self._sender.post(packet)
        await self._over.wait()
