"""Blocking reads of streams. A long wait is made of short ones."""

import asyncio
from collections.abc import Sequence
from typing import Final

from shared.broker.connections import Argument, Connections
from shared.broker.contract import Entry
from shared.broker.replies import entries_of, milliseconds

BLOCK_S: Final = 2.0  # the longest single BLOCK


async def read(
    connections: Connections,
    command: tuple[Argument, ...],
    streams: Sequence[str],
    after: Sequence[str],
    block_s: float,
) -> list[Entry]:
    """New entries of streams, each after an id; waits up to block_s. [] on time-out.

    command: XREAD or XREADGROUP with its options, without BLOCK and STREAMS. Raises as `Connections.call`.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + block_s
    while True:
        slice_s = min(BLOCK_S, until - loop.time())
        # BLOCK 0 would wait forever.
        block = ("BLOCK", max(1, milliseconds(slice_s))) if slice_s > 0 else ()
        reply = await connections.wait(max(slice_s, 0), *command, *block, "STREAMS", *streams, *after)
        if reply or loop.time() >= until:
            return entries_of(reply)
