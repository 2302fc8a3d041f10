"""Several servers on one queue, from the simulator's own parts: a work stream, and processes that read and compute.

The stack places a session on a verifier when it comes, so its verifiers have a queue each and are no M/M/c. This is:
one stream with a consumer group; each server takes one message, computes for its drawn time, and takes the next.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from shared.broker.contract import Entry
from shared.broker.memory_broker import MemoryBroker
from shared.protocol import wire
from shared.protocol.messages import Cancel
from simulator.services import Surroundings
from simulator.stack import SimulatedStack
from simulator.virtual_loop import run_virtual

STREAM = "outrider:s0:requests"
WARM_S = 1.0
BLOCK_S = 1.0


class StreamServer:
    """A server. waits: by request, filled as it goes."""

    def __init__(self, services_s: Sequence[float], began: list[float], given: Surroundings) -> None:
        self._services_s, self._began, self._given = services_s, began, given

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop is set."""
        streams, name = self._given.broker.streams, self._given.ids.token(8)
        await streams.make_groups([STREAM])
        while not stop.is_set():
            for entry in await streams.read_group([STREAM], name, 1, BLOCK_S):
                await self._serve(entry)

    async def _serve(self, entry: Entry) -> None:
        message = wire.decode(entry.data)
        assert isinstance(message, Cancel)
        number = int(message.session)
        self._began[number] = asyncio.get_running_loop().time()
        await self._given.compute.run(lambda: None, self._services_s[number])
        await self._given.broker.streams.ack(STREAM, [entry.id])


def waits(arrivals_s: Sequence[float], services_s: Sequence[float], servers: int) -> list[float]:
    """Seconds that each request waits for its server."""
    return run_virtual(_waits(arrivals_s, services_s, servers))


async def _waits(arrivals_s: Sequence[float], services_s: Sequence[float], servers: int) -> list[float]:
    loop, stack, began = asyncio.get_running_loop(), SimulatedStack(seed=1), [0.0] * len(arrivals_s)
    for n in range(servers):
        stack.add(f"server-{n}", partial(StreamServer, services_s, began))
    broker = MemoryBroker(stack.server, stream_limit=len(arrivals_s))
    async with stack:
        for number, at in enumerate(arrivals_s):
            await asyncio.sleep(WARM_S + at - loop.time())
            await broker.streams.push(STREAM, Cancel(str(number)))
        while await broker.streams.length(STREAM):
            await asyncio.sleep(max(services_s))
        stack.raise_if_failed()
    return [start - WARM_S - at for start, at in zip(began, arrivals_s, strict=True)]
