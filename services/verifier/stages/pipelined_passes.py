"""Passes through the stages of a ring, several at a time."""

from collections.abc import Awaitable, Collection, Sequence
from functools import partial

from services.verifier.core import VerifiedSession
from services.verifier.passes import PassesEnded
from services.verifier.stages.link import LinkBroken
from services.verifier.stages.piece_timeline import COMMITTED
from services.verifier.stages.pipelined_target import Launched, PipelinedTarget
from services.verifier.stages.ring import Ring
from services.verifier.step import Answer, Step, finish_step
from services.verifier.trees.tree_engine import TreeEngine
from shared.compute.compute import Compute
from shared.compute.target import Choices
from shared.protocol.messages import Grown, StagedRow


class PipelinedPasses:
    """See Passes. While one step's pieces are in a stage, those of others are in the stages before and behind."""

    def __init__(self, target: PipelinedTarget, ring: Ring, compute: Compute) -> None:
        self.engine: TreeEngine | None = None  # keeps sessions; None until the group is ready
        self.depth = ring.stages + 1  # one for every stage, and one whose head is computed
        self._target = target
        self._ring = ring
        self._compute = compute

    def grows(self) -> bool:
        """Whether rank 0 has a drafter of trees."""
        return self.engine is not None and self.engine.drafts

    def takes(self, row: StagedRow) -> bool:
        """Whether a session could be kept after this row."""
        return self.engine is not None and self.engine.takes(row)

    def open(self, row: StagedRow, session: VerifiedSession) -> None:
        """Keep a session."""
        if self.engine is not None:
            self.engine.open(row, session)

    def graft(self, grown: Grown) -> str:
        """Add nodes of a device's tree to a session that is kept."""
        return self.engine.graft(grown) if self.engine is not None else "closed"

    async def release(self, sessions: Collection[str]) -> None:
        """Stop with sessions that were kept."""
        if self.engine is not None:
            for session in sorted(sessions):  # a set has another order in every process
                await self.engine.close(session)

    def drop(self, session: str) -> None:
        """Forget a session that was kept."""
        if self.engine is not None:
            self.engine.drop(session)

    def detail(self) -> str:
        """The split, and the slowest stage where one holds up the others."""
        return self._ring.pace.words()

    async def start(self, step: Step) -> Awaitable[Sequence[Answer]]:
        """Send the step's pieces. Raises PassesEnded."""
        launched = await self._compute.run(partial(self._target.launch, step.inputs))
        try:
            for one, piece in launched:
                rows = ((row.session, (COMMITTED,) * len(row.tokens)) for row in one.rows)
                self._ring.timeline.made(one.number, rows)
                await self._ring.send(piece)
        except LinkBroken as error:
            raise PassesEnded(str(error)) from error
        return self._finish(step, [one for one, _ in launched])

    async def _finish(self, step: Step, launched: Sequence[Launched]) -> Sequence[Answer]:
        """Decide when the last piece is back."""
        choices: dict[str, Choices] = {}
        for one in launched:
            result = await self._ring.result(one.number)
            finish = partial(self._target.finish, one, result)
            choices.update(await self._compute.run(finish, self._target.cost_s(one.rows)))
        rows = [choices[row.session] for row in step.inputs]
        return await self._compute.run(partial(finish_step, self._target, step, rows))
