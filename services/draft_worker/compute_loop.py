"""The drafter's loop: takes orders, decodes, returns finished drafts. Sole user of the drafter.

A turn is one decode of a real drafter, and all decodes of a modelled one until something is finished or ordered.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.draft_worker.metrics import Metrics
from services.draft_worker.pace import Pace
from services.draft_worker.sessions import Forget, Start
from shared.compute.compute import Compute
from shared.compute.drafter import Drafter, DraftRequest, DraftResult, NoCapacity
from shared.runtime.bell import Bell
from shared.speculative.params import SamplingParams

CALIBRATIONS: Final = 3  # drafts measured at the start
# The speed is that of the fastest of the last 16 drafts: other load on the machine made the others slower.
REMEMBERED: Final = 16
CALIBRATION: Final = DraftRequest("calibration", (1,) * 8, 8, SamplingParams(seed=0, vocab=2))


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished request. started, ended: computing times on the loop's clock (s)."""

    result: DraftResult
    wait_us: int
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class Turn:
    """Result of one turn: finished requests, and sessions that the drafter has no room for."""

    finished: Sequence[Finished] = ()
    refused: Sequence[str] = ()


class ComputeLoop:
    """Runs the drafter. A session's newer order replaces an older one; the KV cache rolls back by itself.

    Only sessions that draft alone are measured, so that devices' speeds are comparable under any load.
    """

    def __init__(self, drafter: Drafter, compute: Compute, metrics: Metrics) -> None:
        self.busy_us = 0
        self._drafter, self._compute, self._metrics = drafter, compute, metrics
        self._orders: dict[str, Start | Forget] = {}
        self._threads = 0  # to be set, 0 = leave
        self._begun: dict[str, tuple[float, float]] = {}  # session -> (cause arrived, computing started)
        self._speeds: deque[int] = deque(maxlen=REMEMBERED)  # microseconds per token
        self._crowded: set[str] = set()  # sessions under way that shared a decode
        self._busy = False
        self._awake = Bell()
        self._pace = Pace()

    @property
    def us_per_token(self) -> int:
        """Microseconds to draft a token for one session; 0 = not measured yet."""
        return min(self._speeds, default=0)

    def order(self, order: Start | Forget) -> None:
        """Queue an order for the next turn."""
        session = order.request.session if isinstance(order, Start) else order.session
        self._orders[session] = order
        self.wake()

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads from the next turn on."""
        self._threads = threads
        self.wake()

    def wake(self) -> None:
        """Wake a waiting turn, and let a sleeping one end with its decode."""
        self._awake.ring()
        self._pace.hurry()

    async def turn(self) -> Turn:
        """Wait for work, apply the orders, and decode."""
        if not self._busy and not self._orders:
            await self._awake.wait()
        refused = await self._apply()
        results = await self._step() if self._busy else []
        return Turn([self._finish(result) for result in results], refused)

    async def calibrate(self) -> None:
        """Measure the speed before serving, since a device without a measured speed is not planned for."""
        for _ in range(CALIBRATIONS):
            self.order(Start(CALIBRATION, asyncio.get_running_loop().time()))
            finished: Sequence[Finished] = ()
            while not finished:
                finished = (await self.turn()).finished
        await self.forget([CALIBRATION.session])

    async def forget(self, sessions: Sequence[str]) -> None:
        """Free these sessions now, along with all queued orders."""
        for session in sessions:
            self.order(Forget(session))
        await self._apply()

    async def _apply(self) -> Sequence[str]:
        orders, self._orders = self._orders, {}
        threads, self._threads = self._threads, 0
        if not orders and not threads:
            return ()
        now = asyncio.get_running_loop().time()
        for session, order in orders.items():
            if isinstance(order, Start):
                self._begun[session] = (order.since, now)
            else:
                self._begun.pop(session, None)
                self._crowded.discard(session)
        refused, self._busy = await self._compute.run(
            lambda: self._apply_on_thread(list(orders.values()), threads)
        )
        return refused

    def _apply_on_thread(self, orders: Sequence[Start | Forget], threads: int) -> tuple[list[str], bool]:
        """On the compute thread: free first, then start. Returns the refused sessions, and whether there is work."""
        refused = []
        if threads:
            self._drafter.set_threads(threads)
        for order in orders:
            if isinstance(order, Forget):
                self._drafter.forget(order.session)
        for order in orders:
            if isinstance(order, Start):
                try:
                    self._drafter.start(order.request)
                except NoCapacity:
                    refused.append(order.request.session)
        return refused, self._drafter.busy()

    async def _step(self) -> Sequence[DraftResult]:
        if len(self._begun) > 1:
            self._crowded |= self._begun.keys()
        loop = asyncio.get_running_loop()
        began = loop.time()
        costs_s = self._drafter.costs_s()
        decodes = await self._pace.sleep(costs_s) if costs_s else 1
        results, self._busy = await self._compute.run(lambda: self._decode(decodes))
        spent_s = loop.time() - began
        self.busy_us += round(spent_s * 1e6)
        self._metrics.busy_seconds.add(spent_s)
        return results

    def _decode(self, decodes: int) -> tuple[Sequence[DraftResult], bool]:
        """On the compute thread: decode, at most so often. Returns what is finished, and whether there is more work."""
        results: list[DraftResult] = []
        while decodes and not results:
            results = self._drafter.step()
            decodes -= 1
        return results, self._drafter.busy()

    def _finish(self, result: DraftResult) -> Finished:
        now = asyncio.get_running_loop().time()
        since, started = self._begun.pop(result.session, (now, now))
        alone = result.session not in self._crowded
        self._crowded.discard(result.session)
        if result.tokens and alone:
            self._speeds.append(result.draft_us // len(result.tokens))
        self._metrics.observe_draft(result, started - since)
        return Finished(result, round((started - since) * 1e6), started, now)
