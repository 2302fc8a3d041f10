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
from simulator.pipeline.session import Session

NOTHING: Final = (inf, -1)


@dataclass(frozen=True, slots=True)
class Asynchronous:
    """Settings. children: of an expanded node. expanded: nodes of a drafter pass, per user.

    min_probability: of a node that is expanded. max_depth: below the root. factor: of the ratio rule; 0 = as
    `ratio_factor` has it. rows: fixed size of a piece; 0 = by the ratio rule. flying: pieces under way; 0 = as many as
    keep the slowest stage busy.
    """

    children: int = 3
    expanded: int = 10
    min_probability: float = 0.01
    max_depth: int = 64
    factor: float = 0.0
    rows: int = 0
    flying: int = 0

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
        self._flying = 0
        self._first_free = 0.0  # when the first stage will have computed what was sent
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        size = settings.rows or piece_size(self._law.stages[0])
        self._max_flying = settings.flying or in_flight(self._law, size)

    async def run(self) -> None:
        context = self._context
        while not context.done():
            self._send_if_free()
            if context.ring.ready():
                await self._receive()
            elif chosen := list(self._expandable()):
                await context.rank.draft(len(chosen))
                for user, node in chosen:
                    if node in user.session.tree:
                        for child in user.session.expand(node, self._settings.children):
                            user.enter(child)
            else:
                await context.ring.wait(inf)
        self._stop_timer()

    async def _receive(self) -> None:
        context = self._context
        rows = await context.ring.receive()
        self._flying -= 1
        await context.head(rows)
        for user in self._users:
            for decision in context.advance(user.session):
                context.ring.decided(user.session.user, decision)
                if decision.flushed:
                    user.unexpanded.clear()
                    user.unsent.clear()
                    user.enter(decision.root)

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

    def _send_if_free(self) -> None:
        """Send a piece if the first stage will be free when it arrives; otherwise, look again then.

        Sending takes no time of rank 0, so it also happens while the drafter is in a pass.
        """
        self._stop_timer()
        if self._flying >= self._max_flying or all(user.first(user.unsent)[1] < 0 for user in self._users):
            return
        due = self._first_free - self._law.hop_ms / 1e3
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._send_if_free)
        else:
            self._send()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self) -> None:
        """Send the likeliest nodes as one piece."""
        rows, expected, law = [], 0.0, self._law.slowest(1)
        while True:
            user = min(self._users, key=lambda one: one.first(one.unsent))
            cost, node = user.first(user.unsent)
            if node < 0:
                break
            probability = exp(-cost)
            if self._settings.rows and len(rows) >= self._settings.rows:
                break
            if not self._settings.rows and not is_worth_adding(
                probability, expected, len(rows), law, self._factor
            ):
                break
            heappop(user.unsent)
            rows.append(user.session.row(node))
            expected += probability
        arrival = self._loop.time() + self._law.hop_ms / 1e3
        self._first_free = max(arrival, self._first_free) + self._law.stages[0].pass_ms(len(rows)) / 1e3
        self._context.ring.send(rows)
        self._flying += 1
        self._send_if_free()  # sets the timer
