"""Methods a, b, c, c*: a tree of each user is drafted, verified as a whole, and decided when all of it is back.

A tree without drafted nodes is autoregressive decoding, one of width 1 a chain. Users are served in groups: a group's
trees are drafted and verified together, and groups are in the pipeline one behind the other.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulator.pipeline.context import Context
from simulator.pipeline.level_draft import LevelDraft
from simulator.pipeline.ring import Row
from simulator.pipeline.session import Session


@dataclass(frozen=True, slots=True)
class OneShot:
    """Settings. rows: of a user's tree, the root included. levels: passes of the drafter. width: of a level.

    pieces: the tree is cut into so many. groups: of users.
    """

    rows: int
    levels: int
    width: int
    pieces: int = 1
    groups: int = 1

    async def run(self, context: Context) -> None:
        """Decode until the run is done."""
        await _Run(self, context).run()


@dataclass(slots=True)
class _Group:
    sessions: Sequence[Session]
    drafts: list[LevelDraft] = field(default_factory=list)
    levels: int = 0  # to be drafted yet
    outstanding: int = 0


class _Run:
    def __init__(self, settings: OneShot, context: Context) -> None:
        self._settings, self._context = settings, context
        groups = min(settings.groups, len(context.sessions))
        self._drafting = deque(_Group(context.sessions[at::groups]) for at in range(groups))
        self._sent: deque[_Group] = deque()  # the group of each piece under way

    async def run(self) -> None:
        for group in self._drafting:
            self._begin(group)
        while not self._context.done():
            if self._context.ring.ready() or not self._drafting:
                await self._receive()
            else:
                await self._draft()

    def _begin(self, group: _Group) -> None:
        group.levels = self._settings.levels
        group.drafts = [LevelDraft(session, self._settings.width) for session in group.sessions]

    async def _draft(self) -> None:
        """One pass of the drafter: the next level of every group that is drafted for. What is complete is sent."""
        for group in [group for group in self._drafting if not group.levels]:
            self._drafting.remove(group)
            self._send(group)
        if self._drafting:
            levels, width = self._settings.levels, self._settings.width
            rows = sum(
                len(group.drafts) * (width if group.levels < levels else 1) for group in self._drafting
            )
            groups = list(self._drafting)
            await self._context.rank.draft(rows)
            for group in groups:
                group.levels -= 1
                for draft in group.drafts:
                    draft.step()

    def _send(self, group: _Group) -> None:
        """Send the trees in pieces. Each has the same share of every tree, the best nodes first."""
        rows = self._settings.rows
        trees = [
            [draft.session.tree.root, *(draft.choose(rows - 1) if rows > 1 else [])] for draft in group.drafts
        ]
        pieces = min(self._settings.pieces, max(len(tree) for tree in trees))
        size = -(-max(len(tree) for tree in trees) // pieces)
        for start in range(0, pieces * size, size):
            piece: list[Row] = []
            for session, tree in zip(group.sessions, trees, strict=True):
                piece += [session.row(node) for node in tree[start : start + size]]
            if piece:
                self._context.ring.send(piece)
                self._sent.append(group)
                group.outstanding += 1

    async def _receive(self) -> None:
        rows = await self._context.ring.receive()
        await self._context.head(rows)
        group = self._sent.popleft()
        group.outstanding -= 1
        if not group.outstanding:
            for session in group.sessions:
                self._context.advance(session)
            self._begin(group)
            self._drafting.append(group)
