"""The two ends of a rank: packets are posted without waiting, and delivered when they are as old as the hop says.

The receiver emulates the hop, so no network namespace is needed. That takes a clock that both ends share: the monotonic
one of a machine.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeVar

from cli.bench.pipeline.live.packets import End, Packet, Piece, pack, unpack
from services.verifier.stages.link import Inbound, Outbound

SILENCE_S: Final = 600.0  # without any packet, after which a rank gives up
QUEUE: Final = 10_000  # packets that may wait at either end

T = TypeVar("T")


class CountingOutbound(Outbound, Protocol):
    """A link that counts the bytes of its messages."""

    sent_bytes: int


class Sender:
    """To the next rank, in the order of posting. messages: posted so far."""

    def __init__(self, outbound: CountingOutbound) -> None:
        self._outbound = outbound
        self._waiting: asyncio.Queue[tuple[Packet, float]] = asyncio.Queue(QUEUE)
        self.messages = 0

    @property
    def bytes(self) -> int:
        """Of all messages that the link has taken so far."""
        return self._outbound.sent_bytes

    def post(self, packet: Packet) -> None:
        """Let a packet go; it is as old as this call. Raises asyncio.QueueFull."""
        self.messages += 1
        self._waiting.put_nowait((packet, asyncio.get_running_loop().time()))

    async def run(self) -> None:
        """Send what is posted, until cancelled. Raises LinkBroken."""
        while True:
            packet, posted_s = await self._waiting.get()
            await self._outbound.send(pack(packet, posted_s))
            self._waiting.task_done()

    async def flush(self) -> None:
        """Return when the link has taken all that was posted."""
        await self._waiting.join()


class Receiver:
    """From the rank before. row_ms: further time of a piece's rows, where it carries activations."""

    def __init__(self, inbound: Inbound, hop_ms: float, row_ms: float) -> None:
        self._inbound, self._hop_ms, self._row_ms = inbound, hop_ms, row_ms
        self._read: asyncio.Queue[tuple[Packet, float]] = asyncio.Queue(QUEUE)

    async def run(self) -> None:
        """Read until an End. Raises LinkBroken, RingMessageError."""
        packet: Packet | None = None
        while not isinstance(packet, End):
            packet, posted_s = unpack(await self._inbound.receive(SILENCE_S))
            rows = len(packet.rows) if isinstance(packet, Piece) and packet.hidden else 0
            await self._read.put((packet, posted_s + (self._hop_ms + self._row_ms * rows) / 1e3))

    async def next(self) -> Packet:
        """The next packet, once it is due."""
        packet, due = await self._read.get()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        return packet


async def alongside(main: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, object]) -> T:
    """The result of `main`, with `others` running meanwhile. The first failure of any ends all and is raised."""
    work = asyncio.create_task(main)
    tasks: set[asyncio.Task[Any]] = {work, *(asyncio.create_task(other) for other in others)}
    try:
        waiting = set(tasks)
        while not work.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return work.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
