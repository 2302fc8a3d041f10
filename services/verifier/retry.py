"""Calls to a broker that may be away, or full, for a moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.broker.contract import BrokerAway, BrokerFull
from shared.runtime.ids import Ids
from shared.runtime.watch import BrokerWatch

T = TypeVar("T")


class Retry:
    """Repeats a call until the broker has answered it.

    So this process reads and answers each message once, and an entry's delivery count is the number of its readers
    that died. Only for idempotent calls.
    """

    def __init__(self, watch: BrokerWatch, ids: Ids, stop: asyncio.Event) -> None:
        self._watch = watch
        self._ids = ids
        self._stop = stop

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result. Raises BrokerAway once `stop` is set or the broker has lost its data."""
        data = self._watch.generation
        while True:
            try:
                return await call()
            except (BrokerAway, BrokerFull) as error:
                if self._stop.is_set() or self._watch.generation != data:
                    raise BrokerAway(str(error)) from error
                await asyncio.sleep(self._ids.jitter(0.02, 0.2))
