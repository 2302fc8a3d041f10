"""Rank 0's driver of draft trees: it keeps the stages full of pieces, decides what returns, and lets the drafter go on.

One thing at a time on the compute thread, what serves users soonest first: a result (its head and decisions), then a
piece, if there is room in the pipeline, then one level of the drafter. Commits go on beside, those of a session in
their order. Whatever goes wrong ends the tree of the session alone; the scheduler's timer then stages its next row.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Final

import structlog

from services.verifier.core import VerifiedSession, grown_error, tree_verdict
from services.verifier.stages.messages import Piece
from services.verifier.stages.pipelined_target import Launched, PipelinedTarget
from services.verifier.stages.ring import Ring
from services.verifier.trees.piece_flow import PieceFlow
from services.verifier.trees.tree_session import SentPiece, TreeSession
from services.verifier.trees.tree_slots import NOTHING, Kept
from shared.compute.compute import Compute
from shared.compute.target import Choices
from shared.compute.tree_drafter import ROOT, GrowRequest, Growth, TreeDrafter
from shared.protocol.messages import Grown, StagedRow, Verdict

MIN_SURVIVAL: Final = 0.01  # of a node that is expanded
EXPANDED: Final = 2  # nodes of one level at least, of all sessions together; else one for each session
MAX_TREES: Final = 64

Commit = Callable[[StagedRow, Verdict], Awaitable[bool]]  # whether the log has it now
Worth = Callable[[Sequence[float], int], int]  # probabilities, likeliest first, and users -> rows of a piece

log = structlog.get_logger()


@dataclass(slots=True)
class _Open:
    """A session whose next move is ours. admission: of its pages. uncommitted: steps that are not in the log yet."""

    row: StagedRow
    tree: TreeSession
    order: int
    admission: int
    emptied_at: float  # when its tree began anew
    uncommitted: int = 0


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A piece. left_out: its tokens that the stages were told to leave out."""

    launched: Launched
    parts: tuple[tuple[_Open, SentPiece], ...]
    left_out: set[int] = field(default_factory=set)

    def newly_dead(self, open_: Mapping[str, _Open]) -> list[int]:
        """Tokens, counted as the stages count them, that need not be computed any more. open_: sessions by name.

        The root of a session that is not open any more is a committed token, whose KV is kept.
        """
        begins = self.launched.begins()
        died: list[int] = []
        for opened, sent in self.parts:
            gone = open_.get(opened.tree.name) is not opened
            begin = begins[opened.tree.name]
            died += [
                begin + at
                for at, node in enumerate(sent.nodes)
                if begin + at not in self.left_out
                and node != opened.tree.tree.root
                and (gone or not opened.tree.lives(node))
            ]
        self.left_out.update(died)
        return died

    @property
    def size(self) -> int:
        """Rows."""
        return sum(len(sent.row.tokens) for _, sent in self.parts)

    def rows(self) -> list[tuple[str, tuple[int | None, ...]]]:
        """Sessions and their nodes; None for a root, which lives in any case."""
        return [(one.tree.name, (None,) * sent.row.committed + sent.drafts) for one, sent in self.parts]


@dataclass(frozen=True, slots=True)
class _Made:
    """A piece to send, unless there is none; refused: sessions that found no room in it."""

    under_way: _UnderWay | None
    piece: Piece | None
    refused: Sequence[_Open]


class TreeEngine:
    """`open` gives it sessions; `run` serves them until it is cancelled."""

    def __init__(
        self,
        target: PipelinedTarget,
        ring: Ring,
        compute: Compute,
        drafter: TreeDrafter | None,
        planning: asyncio.Lock,
        commit: Commit,
        worth: Worth,
        flow: PieceFlow,
    ) -> None:
        """drafter: of trees that grow here; None = only devices grow them. planning: held from a change of the pool to
        what it was made for.
        """
        self._target, self._ring, self._compute, self._drafter = target, ring, compute, drafter
        self.planning = planning
        self._commit = commit
        self._worth = worth
        self._flow = flow
        self._timeline = ring.timeline
        self._open: dict[str, _Open] = {}
        self._opened = 0
        self._over: list[str] = []  # that the drafter has not forgotten
        self._under_way: deque[_UnderWay] = deque()
        self._commits: asyncio.Queue[tuple[_Open, Verdict]] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._settled = asyncio.Condition()

    @property
    def drafts(self) -> bool:
        """Whether trees grow here."""
        return self._drafter is not None

    def takes(self, row: StagedRow) -> bool:
        """Whether a session could go on here after this row."""
        grows = row.tree == "device" or (row.tree == "core" and self._drafter is not None)
        return grows and (row.session in self._open or len(self._open) < MAX_TREES)

    def open(self, row: StagedRow, session: VerifiedSession) -> None:
        """Go on with a session from its last commit, all but its last token cached. row: that brought it here."""
        self._opened += 1
        admission = self._target.admission(row.session)
        now = asyncio.get_running_loop().time()
        self._open[row.session] = _Open(
            row, TreeSession.begin(session, row.tree), self._opened, admission, now
        )
        self._changed.set()

    def graft(self, grown: Grown) -> str:
        """Take nodes that a device has found for a session that is open here. Returns why not, "" = taken."""
        opened = self._open.get(grown.session)
        if opened is None:
            return "closed"
        if grown_error(grown, opened.row.epoch, self._target.vocab):
            return "malformed"
        if not opened.tree.graft(grown):
            return "torn" if opened.tree.torn else "late"
        self._changed.set()
        return ""

    def sizes(self) -> list[int]:
        """Drafted nodes that are alive, of each open session."""
        return [len(one.tree.tree.nodes) for one in self._open.values()]

    async def close(self, session: str) -> None:
        """Give a session back: its tree is dropped, and all that it decided is in the log, or refused."""
        async with self.planning:  # no piece of it is being made
            one = self._open.pop(session, None)
        if one is None:
            return
        self._timeline.over(session)
        async with self._settled:
            await self._settled.wait_for(lambda: not one.uncommitted)
        await self._keep(one, min(one.tree.fed_length, len(one.tree.ids) - 1))

    def drop(self, session: str) -> None:
        """Forget a session that is over, or known no more; the drafter does before its next level."""
        self._open.pop(session, None)
        self._timeline.over(session)
        self._over.append(session)

    async def run(self) -> None:
        """Serve all open sessions. Raises PassesEnded."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._commit_steps())
            while True:
                self._changed.clear()
                done = await self._finish() or await self._send() or await self._grow()
                if not done:
                    await self._wait(self._due() - asyncio.get_running_loop().time())

    async def _wait(self, limit_s: float) -> None:
        """Until a result has come, a session or nodes, or it is time to send."""
        changed = asyncio.ensure_future(self._changed.wait())
        waiting: list[asyncio.Future[object]] = [changed]  # type: ignore[list-item]  # Future is invariant
        if self._under_way:
            waiting.append(self._ring.future(self._under_way[0].launched.number))  # type: ignore[arg-type]
        try:
            # What is due already has nothing to send.
            timeout = limit_s if 0 < limit_s < inf else None
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    # --- results ------------------------------------------------------------------------------------
    async def _finish(self) -> bool:
        """Take the oldest piece's result, if it is there."""
        if not self._under_way or not self._ring.future(self._under_way[0].launched.number).done():
            return False
        one = self._under_way.popleft()
        result = await self._ring.result(one.launched.number)
        if not result.dead:
            self._flow.returned(one.size, max(result.times_us[1::2], default=0) / 1e6)
        finish = partial(self._target.finish, one.launched, result)
        cost_s = self._target.cost_s(one.launched.rows) if len(result.dead) < one.size else 0.0
        begun = asyncio.get_running_loop().time()
        choices = await self._compute.run(finish, cost_s)
        self._timeline.worked("verify", begun, choices)
        for opened, sent in one.parts:
            if self._open.get(opened.tree.name) is opened and opened.tree.name in choices:
                await self._take(opened, sent, choices)
        for flight in self._under_way:
            if died := flight.newly_dead(self._open):
                await self._ring.leave_out(flight.launched.number, died)
        return True

    async def _take(self, opened: _Open, sent: SentPiece, choices: dict[str, Choices]) -> None:
        """Decide what a session's part of a result decides."""
        tree = opened.tree
        step = tree.take(sent, choices[tree.name])
        if step is None:
            return
        opened.uncommitted += 1  # before the first wait: who closes it meanwhile waits for this step
        self._timeline.decided(tree.name, tree.tree.nodes.__contains__)
        if step.finish:
            self.drop(tree.name)
        else:
            await self._keep(opened, step.length, step.kept)
        if not tree.tree.nodes:
            opened.emptied_at = asyncio.get_running_loop().time()
        verdict = tree_verdict(
            opened.row,
            step.base_len,
            step.tokens,
            step.logprobs,
            step.finish,
            (step.drafted, step.accepted),
            tree.hangs_from if tree.source == "device" else 0,
        )
        self._commits.put_nowait((opened, verdict))

    async def _keep(self, opened: _Open, length: int, kept: Kept = NOTHING) -> None:
        """Roll a session's cache back, unless its pages are gone, or another's."""

        def keep() -> None:
            if self._target.admission(opened.tree.name) == opened.admission:
                self._target.keep(opened.tree.name, length, kept.path, kept.open)

        await self._compute.run(keep)

    async def _commit_steps(self) -> None:
        """Commit decided steps in their order. A session whose step is not committed is dropped."""
        while True:
            opened, verdict = await self._commits.get()
            committed = await self._commit(replace(opened.row, round=verdict.round), verdict)
            if not committed and self._open.get(verdict.session) is opened:
                log.info("a tree ends, since its step was not committed", session=verdict.session)
                self.drop(verdict.session)
            async with self._settled:
                opened.uncommitted -= 1
                self._settled.notify_all()

    # --- pieces -------------------------------------------------------------------------------------
    async def _send(self) -> bool:
        """Send one more piece, if there is room for it and anything to send."""
        now = asyncio.get_running_loop().time()
        if not self._open or now < self._due():
            return False
        async with self.planning:
            parts = self._chosen() if self._open else []
            made = await self._compute.run(partial(self._launch, parts))
            for opened in made.refused:
                if self._open.get(opened.tree.name) is opened:
                    log.info("a tree ends, since its pages are gone", session=opened.tree.name)
                    self.drop(opened.tree.name)  # its timer brings it back
            if made.under_way is None or made.piece is None:
                return False
            self._under_way.append(made.under_way)
            self._flow.sent(made.under_way.size, now)
            self._timeline.made(made.piece.number, made.under_way.rows())
            await self._ring.send(made.piece)
        return True

    def _due(self) -> float:
        """When to send: when the first stage is free, but a lone session's root waits a little for its first drafts."""
        living = sum(self._lives(one) for one in self._under_way)
        held = 0.0
        if len(self._open) == 1:
            (one,) = self._open.values()
            if not (one.tree.root_fed or one.tree.tree.nodes or one.tree.stalled):
                held = one.emptied_at + self._flow.hold_s
        return max(held, self._flow.due(living))

    def _lives(self, under_way: _UnderWay) -> bool:
        """Whether a result is still of use."""
        return any(
            self._open.get(opened.tree.name) is opened and opened.tree.awaits(sent)
            for opened, sent in under_way.parts
        )

    def _chosen(self) -> list[tuple[_Open, list[int]]]:
        """What the next piece has: every root that is not fed, and the likeliest nodes of all sessions."""
        chosen: dict[str, list[int]] = {name: [] for name, one in self._open.items() if not one.tree.root_fed}
        nodes = [
            (one.tree.chance(node), -one.order, -node, name)
            for name, one in self._open.items()
            for node in one.tree.unsent()
        ]
        nodes.sort(reverse=True)
        for _, _, node, name in nodes[: self._worth([chance for chance, *_ in nodes], len(self._open))]:
            chosen.setdefault(name, []).append(-node)
        return [(self._open[name], nodes) for name, nodes in chosen.items()]

    def _launch(self, parts: Sequence[tuple[_Open, list[int]]]) -> _Made:
        """Make a piece; on the compute thread. Sessions without room, or whose pages are gone, are left out."""
        sent: list[tuple[_Open, SentPiece]] = []
        refused: list[_Open] = []
        protect = [opened.tree.name for opened, _ in parts]
        for opened, nodes in parts:
            tree = opened.tree
            cells = tree.fed_length + (not tree.root_fed) + len(tree.slots.nodes) + len(nodes)
            held = 0 < opened.admission == self._target.admission(tree.name)  # pages may go before `open`
            if held and self._target.admit(tree.name, tree.session.spec.prompt, protect, cells):
                sent.append((opened, tree.piece(nodes)))
            else:
                refused.append(opened)
        if not sent:
            return _Made(None, None, refused)
        ((launched, piece),) = self._target.launch([one.row for _, one in sent], counted=True)
        for opened, _ in sent:
            self._target.sent(opened.tree.name, opened.tree.fed_length)
        return _Made(_UnderWay(launched, tuple(sent)), piece, refused)

    # --- drafts -------------------------------------------------------------------------------------
    async def _grow(self) -> bool:
        """One level of the drafter: the likeliest nodes that are not expanded. False when there are none."""
        over, self._over = self._over, []
        if self._drafter is None:
            return False
        for session in over:
            await self._compute.run(partial(self._drafter.forget, session))
        limit = max(EXPANDED, len(self._open))
        leaves = [
            (1.0 if node == ROOT else one.tree.tree.survival(node), -one.order, name, node)
            for name, one in self._open.items()
            for node in one.tree.leaves(limit, MIN_SURVIVAL)
        ]
        if not leaves:
            return False
        leaves.sort(reverse=True)
        chosen: dict[str, list[int]] = {}
        for _, _, name, node in leaves[:limit]:
            chosen.setdefault(name, []).append(node)
        requests = [
            GrowRequest(name, tuple(one.tree.ids), one.tree.session.spec.sampling, nodes)
            for name, nodes in chosen.items()
            if (one := self._open.get(name))
        ]
        begun = asyncio.get_running_loop().time()
        growths = await self._compute.run(
            partial(self._drafter.grow, requests), self._drafter.cost_s(requests)
        )
        self._timeline.worked("draft", begun, chosen)
        for growth in growths:
            self._take_growth(growth)
        return True

    def _take_growth(self, growth: Growth) -> None:
        opened = self._open.get(growth.session)
        if opened is None or growth.base_len != len(opened.tree.ids):
            return
        if growth.error or not (growth.expansions or growth.missing):
            opened.tree.stalled = True  # no further drafts below this root
            log.debug("no drafts", session=growth.session, why=growth.error)
        for expansion in growth.expansions:
            opened.tree.tree.add(expansion)
