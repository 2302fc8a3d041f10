"""The loop that drafts trees with a device's tree drafter, beside that of chains. Sole user of the tree drafter."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from services.draft_worker.compute_loop import Finished
from services.draft_worker.grown_trees import Grow, GrownTrees, Nodes, StopGrowing
from services.draft_worker.metrics import Metrics
from services.draft_worker.requested_draft import RequestedDraft
from services.draft_worker.sessions import Start
from shared.compute.compute import Compute
from shared.compute.tree_drafter import GrowRequest, Growth, TreeDrafter
from shared.runtime.bell import Bell

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TreeTurn:
    """Result of one turn: drafts that were asked for, and nodes of trees without end."""

    finished: Sequence[Finished] = ()
    nodes: Sequence[Nodes] = ()


class GrowthLoop:
    """make: loads the tree drafter, on the compute thread, when a tree is first asked for; None = there is none.

    Orders are applied between two decodes, so that an answer always fits the tree.
    """

    def __init__(self, make: Callable[[], TreeDrafter] | None, compute: Compute, metrics: Metrics) -> None:
        self.busy_us = 0
        self._make, self._compute, self._metrics = make, compute, metrics
        self._drafter: TreeDrafter | None = None
        self._trees = GrownTrees()
        self._orders: deque[Start | Grow | StopGrowing] = deque()
        self._over: list[str] = []  # sessions that the drafter has not forgotten
        self._threads = 0  # to be set, 0 = leave
        self._awake = Bell()

    @property
    def able(self) -> bool:
        """Whether this device drafts trees."""
        return self._make is not None

    def order(self, order: Start | Grow | StopGrowing) -> None:
        """Queue an order for the next turn."""
        if self.able:
            self._orders.append(order)
            self.wake()

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads from the next decode on."""
        self._threads = threads

    def wake(self) -> None:
        """Wake a waiting turn."""
        self._awake.ring()

    async def turn(self) -> TreeTurn:
        """Apply the orders, else grow by one level; wait where there is neither. Returns what to send."""
        if self._orders:
            nodes = self._apply()
            return TreeTurn(self._finished(), nodes)
        requests = self._trees.requests()
        if not requests and not self._over:
            await self._awake.wait()
            return TreeTurn()
        over, self._over = self._over, []
        loop = asyncio.get_running_loop()
        began = loop.time()
        cost_s = self._drafter.cost_s(requests) if self._drafter else 0.0
        growths = await self._compute.run(lambda: self._grow(over, requests), cost_s)
        spent_s = loop.time() - began
        self.busy_us += round(spent_s * 1e6)
        self._metrics.busy_seconds.add(spent_s)
        nodes = self._trees.take(growths)
        self._metrics.drafted.add(sum(len(one.tokens) for one in nodes))
        for growth in growths:
            if growth.error:
                log.info("no tree", session=growth.session, why=growth.error)
        return TreeTurn(self._finished(), nodes)

    def drop_all(self) -> None:
        """Drop all trees."""
        self._orders.clear()
        self._over += self._trees.sessions()
        self._trees = GrownTrees()
        self.wake()

    async def close(self) -> None:
        """Free the model."""
        drafter, self._drafter = self._drafter, None
        if drafter is not None:
            await self._compute.run(drafter.close)

    def _apply(self) -> Sequence[Nodes]:
        found: list[Nodes] = []
        while self._orders:
            match self._orders.popleft():
                case Grow() as grow:
                    found += self._trees.follow(grow)
                case Start(request, since):
                    self._trees.request(RequestedDraft(request, since, asyncio.get_running_loop().time()))
                case StopGrowing(session):
                    if self._trees.stop(session):
                        self._over.append(session)
        return found

    def _finished(self) -> Sequence[Finished]:
        now = asyncio.get_running_loop().time()
        found = []
        for draft, result in self._trees.finished():
            waited_s = draft.started - draft.since
            self._metrics.observe_draft(result, waited_s)
            found.append(Finished(result, round(waited_s * 1e6), draft.started, now))
        return found

    def _load(self) -> None:
        try:
            self._drafter = self._make() if self._make is not None else None
        except Exception as error:  # whatever llama.cpp raises: chains are drafted all the same
            self._make = None
            log.warning("the model does not load a second time, no trees are grown", why=str(error))

    def _grow(self, over: Sequence[str], requests: Sequence[GrowRequest]) -> Sequence[Growth]:
        """On the compute thread."""
        if self._drafter is None and requests:
            self._load()
        if self._drafter is None:
            return [Growth(one.session, len(one.ids), (), 0, 0, "no model") for one in requests]
        if self._threads:
            self._drafter.set_threads(self._threads)
            self._threads = 0
        for session in over:
            self._drafter.forget(session)
        return self._drafter.grow(requests) if requests else ()
