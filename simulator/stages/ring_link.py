"""A link between two ranks of a simulated pipeline: a hop takes its time, and a machine that dies cuts it."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from services.verifier.stages.link import LAST_S, SEND_S, LinkBroken
from services.verifier.stages.messages import Failed, Message, Piece, Result
from simulator.process import Incarnation
from simulator.stages.stages_spec import StagesSpec

HEADER_BYTES: Final = 32  # of a message beside its hidden rows, which are shorter than a real model's
ROW_BYTES: Final = 16


class RingLink:
    """Both ends of a link. Messages keep their order and do not queue for its bandwidth."""

    def __init__(self, spec: StagesSpec, to: str) -> None:
        """to: whom it leads to, for errors."""
        self._spec, self._to = spec, to
        self._arrived: deque[Message] = deque()
        self._last = 0.0  # when the last message arrives
        self._change = asyncio.Event()
        self._closed = False
        self.sent_bytes = 0

    async def send(self, message: Message, limit_s: float = SEND_S) -> None:
        """Send one message. Raises LinkBroken."""
        if self._closed:
            raise LinkBroken(f"{self._to} takes no message")
        loop, rows = asyncio.get_running_loop(), 0
        if isinstance(message, Piece | Result):
            rows = len(message.hidden) // ROW_BYTES
        self.sent_bytes += HEADER_BYTES + rows * ROW_BYTES
        self._last = max(self._last, loop.time() + (self._spec.hop_ms + self._spec.row_ms * rows) / 1e3)
        loop.call_at(self._last, self._arrive, message)

    async def receive(self, limit_s: float) -> Message:
        """The next message. Raises LinkBroken."""
        loop = asyncio.get_running_loop()
        while not self._arrived:
            if self._closed and loop.time() >= self._last:
                raise LinkBroken(f"the rank before {self._to} is gone")
            self._change.clear()
            try:
                async with asyncio.timeout(limit_s):
                    await self._change.wait()
            except TimeoutError:
                raise LinkBroken(f"{self._to} has read nothing for {limit_s:.0f} s") from None
        return self._arrived.popleft()

    def close(self) -> None:
        """The process at one end is gone: what is under way still arrives."""
        self._closed = True
        asyncio.get_running_loop().call_at(self._last, self._change.set)

    def _arrive(self, message: Message) -> None:
        self._arrived.append(message)
        self._change.set()


@dataclass(frozen=True, slots=True)
class RankLinks:
    """See Links. life: of the rank's process."""

    inbound: RingLink
    outbound: RingLink
    life: Incarnation

    async def leave(self, notice: Failed | None) -> None:
        """Close both links; one who is alive says why."""
        if notice is not None and self.life.alive:
            with suppress(LinkBroken):
                await self.outbound.send(notice, LAST_S)
        self.inbound.close()
        self.outbound.close()
