"""Methods f and h: trees that grow, are verified and are decided all at once, without rounds or turns.

The drafter always expands the likeliest nodes that it was not yet given; the likeliest nodes that were not yet sent go
down whenever the first stage becomes free. A head goes before the next drafter pass. h is f with trees of width 1.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import exp, inf, log
from typing import Final

from shared.planning.pieces import in_flight, is_worth_adding, piece_size, ratio_factor
from simulator.pipeline.context import Context
from simulator.pipeline.forecast import Forecast
from simulator.pipeline.ring import Row
from simulator.pipeline.session import Session

NOTHING: Final = (inf, -1)


@dataclass(frozen=True, slots=True)
class Asynchronous:
    """Settings. children: of an expanded node. expanded: nodes of a drafter pass, per user.

    min_probability: of a node that is expanded. max_depth: below the root. factor: of the ratio rule; 0 = as
    `ratio_factor` has it. rows: fixed size of a piece; 0 = by the ratio rule. flying: pieces under way; 0 = as many as
    keep the slowest stage busy. patience: the drafter waits for a piece that returns within this share of its pass.
    hold: passes of the drafter before the first piece after a tree was flushed; with one user alone.
    """

    children: int = 10
    expanded: int = 10
    min_probability: float = 0.003
    max_depth: int = 64
    factor: float = 0.0
    rows: int = 0
    flying: int = 0
    patience: float = 0.7
    hold: int = 1

    async def run(self, context: Context) -> None:
        """Decode until the run is done."""
        await _Run(self, context).run()


class _User:
    """A session and its nodes that wait: for the drafter, and to be sent. The likeliest is first in both heaps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.unexpanded: list[tuple[float, int]] = []
        self.unsent: list[tuple[float, int]] = []
        self.enter(session.tree.root)

    def enter(self, node: int) -> None:
        """Let a new node wait."""
        entry = (-self.session.tree[node].score, node)
        heappush(self.unexpanded, entry)
        heappush(self.unsent, entry)

    def restart(self, root: int) -> None:
        """Begin with a new tree."""
        self.unexpanded.clear()
        self.unsent.clear()
        self.enter(root)

    def first(self, heap: list[tuple[float, int]]) -> tuple[float, int]:
        """(-log-probability given the root, node) of the likeliest living node of a heap; NOTHING if it is empty."""
        tree = self.session.tree
        while heap and heap[0][1] not in tree:
            heappop(heap)
        return (heap[0][0] + tree[tree.root].score, heap[0][1]) if heap else NOTHING


class _Run:
    def __init__(self, settings: Asynchronous, context: Context) -> None:
        self._settings, self._context, self._law = settings, context, context.law
        self._users = [_User(session) for session in context.sessions]
        self._factor = settings.factor or ratio_factor(len(self._users))
        self._forecast = Forecast(self._law)
        self._drafts = 0  # passes of the drafter since a tree was flushed
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        size = settings.rows or piece_size(self._law.slowest(1))
        self._max_flying = settings.flying or in_flight(self._law, size)

    async def run(self) -> None:
        context = self._context
        while not context.done():
            self._send_if_free()
            if context.ring.ready():
                await self._receive()
            elif self._result_is_due():
                await context.ring.wait(self._loop.time() + self._law.draft_ms / 1e3)
            elif chosen := list(self._expandable()):
                await self._expand(chosen)
            else:
                await context.ring.wait(inf)
        self._stop_timer()

    def _now_ms(self) -> float:
        return 1e3 * self._loop.time()

    async def _receive(self) -> None:
        """Decide what the next piece decides."""
        context = self._context
        rows = await context.ring.receive()
        self._forecast.receive()
        await context.head(rows)
        for user in self._users:
            number = user.session.user
            for decision in context.advance(user.session):
                context.ring.decided(number, decision)
                self._forecast.drop([(number, node) for node in decision.dead], self._now_ms())
                if decision.flushed:
                    user.restart(decision.root)
                    self._drafts = 0

    # --- drafting -----------------------------------------------------------------------------------
    def _result_is_due(self) -> bool:
        """Is a piece about to return, so that it would have to wait for a drafter pass?"""
        due, draft_ms = self._forecast.next_return() - self._now_ms(), self._law.draft_ms
        return -0.5 * draft_ms < due < self._settings.patience * draft_ms

    def _expandable(self) -> Iterator[tuple[_User, int]]:
        """Take the likeliest nodes that the drafter was not given, for one pass."""
        limit = -log(self._settings.min_probability)
        for _ in range(self._settings.expanded * len(self._users)):
            user = min(self._users, key=lambda one: one.first(one.unexpanded))
            cost, node = user.first(user.unexpanded)
            if cost > limit or user.session.tree.depth(node) >= self._settings.max_depth:
                return
            heappop(user.unexpanded)
            yield user, node

    async def _expand(self, chosen: list[tuple[_User, int]]) -> None:
        self._drafts += 1
        await self._context.rank.draft(len(chosen))
        for user, node in chosen:
            for child in user.session.expand(node, self._settings.children):
                user.enter(child)

    # --- sending ------------------------------------------------------------------------------------
    def _send_if_free(self) -> None:
        """Send a piece if the first stage will be free when it arrives; otherwise, look again then.

        Sending takes no time of rank 0, so it also happens while the drafter is in a pass. Pieces whose rows are all
        dead keep nothing busy and do not count as under way.
        """
        self._stop_timer()
        if self._drafts < self._settings.hold and len(self._users) == 1:
            return
        if self._forecast.living >= self._max_flying or all(
            user.first(user.unsent)[1] < 0 for user in self._users
        ):
            return
        due = (self._forecast.first_free() - self._law.hop_ms) / 1e3
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._send_if_free)
        else:
            self._send()
            self._send_if_free()  # sets the timer

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self) -> None:
        """Send the likeliest nodes as one piece."""
        rows: list[Row] = []
        expected = 0.0
        while True:
            user = min(self._users, key=lambda one: one.first(one.unsent))
            cost, node = user.first(user.unsent)
            if node < 0 or not self._pays(exp(-cost), expected, len(rows)):
                break
            heappop(user.unsent)
            rows.append(user.session.row(node))
            expected += exp(-cost)
        self._forecast.send([(row.user, row.node) for row in rows], self._now_ms())
        self._context.ring.send(rows)

    def _pays(self, probability: float, expected: float, rows: int) -> bool:
        """Should a piece that has `rows` rows, of so many expected tokens, get one more?"""
        if self._settings.rows:
            return rows < self._settings.rows
        return is_worth_adding(probability, expected, rows, self._law.slowest(1), self._factor)
