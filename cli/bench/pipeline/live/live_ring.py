"""Rank 0's end of a live pipeline: the ring, over links to real processes."""

import asyncio
from collections.abc import Coroutine, Sequence
from statistics import median
from typing import Any, Final, TypeVar

from cli.bench.pipeline.live.group import Peer
from cli.bench.pipeline.live.hidden import check, to_tensor
from cli.bench.pipeline.live.live_turns import LiveTurns
from cli.bench.pipeline.live.packets import Decided, End, Piece, Probe, Report
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
    """See ring.Ring. `serving` runs its links; one ring at a time sends and receives on them.

    turns: the same stages in lock-step. A run uses either.
    """

    def __init__(
        self, law: PipelineLaw, inbound: Inbound, outbound: CountingOutbound, stages: Sequence[Peer]
    ) -> None:
        """stages: links with each of them, for turns."""
        self._stages = len(law.stages)
        self._receiver = Receiver(inbound, law.hop_ms, law.wire_ms)
        self._sender = Sender(outbound)
        self._returned = Returned()
        self.turns = LiveTurns(law, self._sender, self._returned, stages)
        self._around = asyncio.Event()  # a probe, a report or the end came around
        self._report = Report()
        self._counted = (0, 0)

    async def serving(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which uses the ring. Raises LinkBroken, RingMessageError."""
        return await alongside(work, self._read(), self._receiver.run(), self._sender.run(), self.turns.run())

    async def _read(self) -> None:
        while True:
            packet = await self._receiver.next()
            match packet:
                case Piece():
                    check(to_tensor(packet.hidden, len(packet.rows)), packet.rows, self._stages)
                    self._returned.add(packet.rows)
                case Report():
                    self._report = packet
                    self._around.set()
                case _:
                    self._around.set()

    def send(self, rows: Sequence[Row]) -> None:
        """See Ring.send."""
        self._sender.post(Piece(tuple(rows)))

    def decided(self, user: int, decision: Decision) -> None:
        """See Ring.decided."""
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

    async def measure_hop(self) -> float:
        """Time of a hop in ms: median of messages around the idle ring. Raises TimeoutError."""
        loop, hops = asyncio.get_running_loop(), []
        async with asyncio.timeout(CONTROL_S):
            for _ in range(PROBES):
                began = loop.time()
                await self._go_around(Probe())
                hops.append(1e3 * (loop.time() - began) / (self._stages + 1))
                await asyncio.sleep(PROBE_S)
        await self.finish(Timeline(self._stages))  # these messages belong to no run
        return median(hops)

    async def finish(self, timeline: Timeline) -> None:
        """End a run: let all that is under way come back, and add what the ranks did. Raises TimeoutError."""
        await self._flush()
        messages, size = self._sent()
        sent = messages - self._counted[0], size - self._counted[1]
        async with asyncio.timeout(CONTROL_S):
            await self._go_around(Report())
            await self._flush()
        self._counted = self._sent()
        self._returned.clear()
        timeline.passes.extend(self._report.passes)
        timeline.passes.sort(key=lambda one: one.end)
        timeline.messages += sent[0] + self._report.messages
        timeline.bytes += sent[1] + self._report.bytes

    async def close(self) -> None:
        """Let the stages end. Raises TimeoutError."""
        await self.turns.close()
        async with asyncio.timeout(CONTROL_S):
            await self._go_around(End())

    async def _go_around(self, packet: Probe | Report | End) -> None:
        """Send a packet around the ring and wait for it."""
        self._around.clear()
        self._sender.post(packet)
        await self._around.wait()

    def _sent(self) -> tuple[int, int]:
        """Messages and bytes so far."""
        messages, size = self.turns.sent()
        return self._sender.messages + messages, self._sender.bytes + size

    async def _flush(self) -> None:
        await self._sender.flush()
        await self.turns.flush()
