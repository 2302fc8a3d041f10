"""Methods d and e: pieces in lock-step, as FlowSpec (arXiv 2507.02620) sends them. One user at a time.

d cuts a tree into pieces, sends one a turn, decides whatever returned, and prunes; when the tree is used up it drafts
the next. e also expands: after tokens were accepted it drafts a fresh tree from the new root and merges it; on a turn
without any it deepens the tree that it has. The best new nodes are appended as one piece, behind those that wait.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

from simulator.pipeline.context import Context
from simulator.pipeline.level_draft import LevelDraft
from simulator.pipeline.ring import Row
from simulator.pipeline.session import Session


@dataclass(frozen=True, slots=True)
class LockStep:
    """Settings. rows: of a fresh tree, its root included. levels, width: of its drafting. piece: rows at most.

    redraft: levels of the fresh tree that is merged after tokens were accepted; 0 = no expansion. deepen: levels on a
    turn without accepted tokens. best_first: the best nodes go first, whichever piece they wait in.
    """

    rows: int = 80
    levels: int = 7
    width: int = 10
    piece: int = 16
    redraft: int = 0
    deepen: int = 0
    best_first: bool = False

    async def run(self, context: Context) -> None:
        """Decode until the run is done: each user's share of the tokens, one user after the other."""
        users = len(context.sessions)
        for served, session in enumerate(context.sessions, start=1):
            await _Run(self, context, session).run(context.ends_at * served // users)


class _Run:
    def __init__(self, settings: LockStep, context: Context, session: Session) -> None:
        self._settings, self._context, self._session = settings, context, session
        self._new: dict[int, None] = {}  # nodes that are in no piece, in the order of their creation
        self._known: set[int] = set()  # living nodes that are new, or in a piece
        self._pieces: deque[list[int]] = deque()  # not sent yet

    async def run(self, ends_at: int) -> None:
        """Turn after turn until so many tokens were emitted for all users, and the pipeline is empty."""
        context, emissions = self._context, self._context.emissions
        returned: Sequence[Row] | None = None
        while not emissions or emissions[-1][1] < ends_at:
            accepted, flushed = 0, not self._known
            if returned:
                await context.head(returned)
                for decision in context.advance(self._session):
                    context.turns.decided(self._session.user, decision)
                    accepted += not decision.flushed
                    flushed = flushed or decision.flushed
            context.turns.begin()
            if flushed:
                await self._fresh()
            elif accepted and self._settings.redraft:
                await self._draft(self._settings.redraft)
            elif self._settings.deepen:
                await self._deepen()
            returned = await context.turns.end(self._next_piece())

    async def _fresh(self) -> None:
        """A new tree from the root, in pieces."""
        self._new, self._known, self._pieces = {}, set(), deque()
        self._enter(self._session.tree.root)
        await self._draft(self._settings.levels)
        while self._new:
            self._append_piece()

    async def _draft(self, levels: int) -> None:
        draft = LevelDraft(self._session, self._settings.width)
        for level in range(levels):
            await self._context.rank.draft(self._settings.width if level else 1)
            draft.step()
        for node in draft.choose(self._settings.rows - 1):
            self._enter(node)

    async def _deepen(self) -> None:
        """Expand the best leaves of the tree."""
        tree = self._session.tree
        for _ in range(self._settings.deepen):
            leaves = [(-tree.score(node), node) for node in tree.order() if not tree[node].children]
            chosen = nsmallest(self._settings.width, leaves)
            await self._context.rank.draft(len(chosen))
            for _, node in chosen:
                for child in self._session.expand(node, self._settings.width):
                    self._enter(child)

    def _enter(self, node: int) -> None:
        if node not in self._known:
            self._known.add(node)
            self._new[node] = None

    def _append_piece(self) -> None:
        """Make a piece of the best new nodes."""
        tree = self._session.tree
        alive = ((-tree[node].score, node) for node in self._new if node in tree)
        piece = [node for _, node in nsmallest(self._settings.piece, alive)]
        self._new = {node: None for node in self._new if node in tree}
        for node in piece:
            del self._new[node]
        if piece:
            self._pieces.append(piece)

    def _next_piece(self) -> list[Row]:
        """The living nodes of the next piece that has any."""
        if self._settings.best_first:
            self._new |= {node: None for piece in self._pieces for node in piece}
            self._pieces.clear()
        self._append_piece()
        tree = self._session.tree
        self._known = {node for node in self._known if node in tree}
        while self._pieces:
            rows = [self._session.row(node) for node in self._pieces.popleft() if node in tree]
            if rows:
                return rows
        return []
