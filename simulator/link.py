"""The link between a simulated process and the broker: delay, bandwidth, loss, duplicates, outages, injected faults.

A link's messages may overtake each other only as far as its jitter allows, as over several connections.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeVar

from services.draft_worker.link import Link
from shared.broker.contract import BrokerAway
from shared.compute.compute import InlineCompute
from shared.runtime.ids import Ids
from simulator.faults import COMPUTE, FaultCounter
from simulator.process import Incarnation

T = TypeVar("T")
DELAY_S: Final = (
    1.5  # of the faults delay and delay_after; longer than a scheduler waits for a session's next move
)


@dataclass(frozen=True, slots=True)
class LinkModel:
    """One direction between a process and the broker.

    delay_s: fixed; jitter_s: mean of an exponential delay. bytes_per_s: rate. loss: share of messages that are resent
    after TCP's time-out. duplicates: share of added messages that arrive twice. message_s: of the process's own code
    for each message that it reads.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = inf
    loss: float = 0.0
    duplicates: float = 0.0
    message_s: float = 0.0

    def drawn(self, ids: Ids) -> Link:
        """The law of the delays, with its random numbers."""
        return Link(ids, self.delay_s, self.jitter_s, self.bytes_per_s, self.loss)


class Outage:
    """Whether the broker cannot be reached at all."""

    def __init__(self) -> None:
        self.down = False


class SimulatedLink:
    """A BrokerLink of one incarnation."""

    def __init__(
        self,
        model: LinkModel,
        ids: Ids,
        incarnation: Incarnation,
        faults: FaultCounter | None = None,
        outages: Sequence[Outage] = (),
    ) -> None:
        """outages: of the broker, and of this process's own link."""
        self.incarnation = incarnation
        self._faults, self._outages = faults, outages
        self.counts_calls = faults is not None
        self.message_s = model.message_s
        self._ids, self._duplicates = ids, model.duplicates
        self.outward, self.inward = Direction(model.drawn(ids)), Direction(model.drawn(ids))
        self._kinds: dict[
            asyncio.Task[Any] | None, str | None
        ] = {}  # the fault of each task's call under way

    async def before(self, operation: str, sent: int) -> None:
        """See BrokerLink.before."""
        await self._pass(self.outward.transfer_s(sent))
        await self.fail_before(operation)

    async def after(self, operation: str, received: int) -> None:
        """See BrokerLink.after."""
        await self.fail_after(operation)
        await self._pass(self.inward.transfer_s(received))

    async def fail_before(self, operation: str) -> None:
        """Count a call, and let it fail before it has an effect if a fault or an outage says so."""
        kind = None
        if self._faults is not None:
            kind = self._kinds[asyncio.current_task()] = self._faults.call(operation)
        if kind == "die":
            await self.incarnation.die()
        if kind == "away" or (operation != COMPUTE and self.is_down()):
            raise BrokerAway("cut before")
        if kind == "delay":
            await self._pass(DELAY_S)

    async def fail_after(self, operation: str) -> None:
        """Let the call fail after its effect."""
        kind = None if self._faults is None else self._kinds.pop(asyncio.current_task(), None)
        if kind == "die_after":
            await self.incarnation.die()
        if kind == "away_after" or (operation != COMPUTE and self.is_down()):
            raise BrokerAway("cut after")
        if kind == "delay_after":
            await self._pass(DELAY_S)

    def copies(self, stream: str, data: bytes) -> int:
        """See BrokerLink.copies."""
        copies = 1 if self._faults is None else self._faults.copies(stream)
        if self._duplicates and self._ids.jitter(0.0, 1.0) < self._duplicates:
            copies += 1
        return copies

    async def handle(self, messages: int) -> None:
        """Take the time of the process's code for these messages."""
        if messages and self.message_s:
            await self._pass(messages * self.message_s)

    def is_down(self) -> bool:
        """Whether the broker is out of reach."""
        for outage in self._outages:  # noqa: SIM110  # a generator takes three times as long
            if outage.down:
                return True
        return False

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self.incarnation.alive:
            raise asyncio.CancelledError


class SimulatedCompute(InlineCompute):
    """The compute of one incarnation, whose calls may fail like those of the broker."""

    def __init__(self, link: SimulatedLink) -> None:
        super().__init__()
        self._link = link

    def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> Coroutine[Any, Any, T]:
        """See Compute.run."""
        return self._run_failing(fn, cost_s) if self._link.counts_calls else super().run(fn, cost_s)

    async def _run_failing(self, fn: Callable[[], T], cost_s: float) -> T:
        await self._link.fail_before(COMPUTE)
        answer = await super().run(fn, cost_s)
        await self._link.fail_after(COMPUTE)
        return answer


class Direction:
    """One direction of a link: messages share its bandwidth in order."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._free_at = 0.0
        self.is_fixed = (
            not (link.jitter_s or link.loss) and link.bytes_per_s == inf
        )  # every message takes as long

    def transfer_s(self, size: int) -> float:
        """Seconds until a message of `size` bytes, sent now, has arrived."""
        if self.is_fixed:
            return self._link.delay_s
        delay_s = self._link.draw_s()
        if self._link.bytes_per_s == inf or not size:
            return delay_s
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + size / self._link.bytes_per_s
        return self._free_at - now + delay_s
