"""Rank 0's end of lock-step: it speaks with each stage directly, as FlowSpec broadcasts; pieces go around the ring."""

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import Final

from cli.bench.pipeline.live.group import Peer
from cli.bench.pipeline.live.packets import Decided, End, Piece, Turn, TurnOver
from cli.bench.pipeline.live.ports import Receiver, Sender, alongside
from shared.planning.pieces import PipelineLaw
from simulator.pipeline.draft_tree import Decision
from simulator.pipeline.returned import Returned
from simulator.pipeline.ring import Row

END_S: Final = 30.0  # for the stages to say that they end


class LiveTurns:
    """See ring.TurnRing. A turn takes a hop to the stages, the slowest pass, and a hop back."""

    def __init__(self, law: PipelineLaw, ring: Sender, returned: Returned, stages: Sequence[Peer]) -> None:
        """ring: for pieces. returned: where the last stage's arrive, one a turn. stages: all, in their order."""
        self._ring, self._returned = ring, returned
        self._receivers = [Receiver(stage.inbound, law.hop_ms, 0.0) for stage in stages]
        self._senders = [Sender(stage.outbound) for stage in stages]
        self._over: asyncio.Queue[TurnOver | End] = asyncio.Queue()

    async def run(self) -> None:
        """Serve the links, until cancelled. Raises LinkBroken, RingMessageError."""
        reading = [work for one in self._receivers for work in (one.run(), self._read(one))]
        await alongside(asyncio.Event().wait(), *reading, *(one.run() for one in self._senders))

    async def _read(self, receiver: Receiver) -> None:
        while True:
            packet = await receiver.next()
            if isinstance(packet, TurnOver | End):
                self._over.put_nowait(packet)

    def begin(self) -> None:
        """See TurnRing.begin."""
        self._send_all(Turn())

    async def end(self, rows: Sequence[Row]) -> Sequence[Row] | None:
        """See TurnRing.end."""
        self._ring.post(Piece(tuple(rows), held=True))
        await self._all_over()
        return await self._returned.receive() or None

    def decided(self, user: int, decision: Decision) -> None:
        """See TurnRing.decided."""
        self._send_all(Decided(user, decision.root))

    def sent(self) -> tuple[int, int]:
        """Messages and bytes to the stages so far."""
        return sum(one.messages for one in self._senders), sum(one.bytes for one in self._senders)

    async def flush(self) -> None:
        """Return when the links have taken all that was posted."""
        for sender in self._senders:
            await sender.flush()

    async def close(self) -> None:
        """Let the stages end their side. Raises TimeoutError."""
        self._send_all(End())
        async with asyncio.timeout(END_S):
            await self._all_over()

    def _send_all(self, packet: Turn | Decided | End) -> None:
        for sender in self._senders:
            sender.post(packet)

    async def _all_over(self) -> None:
        for _ in repeat(None, len(self._senders)):
            await self._over.get()
