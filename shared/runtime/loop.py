"""The loop that runs a service's turns."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.broker.contract import BrokerAway
from shared.runtime.watch import BrokerWatch

log = structlog.get_logger()


async def run_forever(
    turn: Callable[[], Awaitable[None]], watch: BrokerWatch, stop: asyncio.Event, name: str
) -> None:
    """Call `turn` until stop is set. Retries while the broker is away; any other error is raised."""
    pause_s = 0.02
    while not stop.is_set():
        try:
            await turn()
            pause_s = 0.02
        except BrokerAway as error:
            log.debug("turn failed", loop=name, why=str(error), watch_up=watch.up)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)
