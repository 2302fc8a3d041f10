"""The ranks of a simulated pipeline as services: the deployed ones, whose layers, ends and links are modelled."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from services.verifier.paged_target import CALL_COST
from services.verifier.stages.front import FrontParts, FrontRank, Readiness
from services.verifier.stages.member import Member
from services.verifier.stages.messages import Assign, Facts, Piece
from services.verifier.stages.pipelined_target import PipelinedTarget
from services.verifier.stages.rank_loop import Role, StageRank, serve_groups
from shared.compute.modelled import modelled_vocabulary
from shared.compute.tree_drafter import TreeDrafter
from shared.planning.pieces import StageLaw
from shared.runtime.settings import VerifierSettings
from simulator.process import Incarnation, current_incarnation
from simulator.services import Factory, Surroundings
from simulator.stages.meeting import Meeting
from simulator.stages.modelled_block import ModelledBlock
from simulator.stages.modelled_outer_layers import ModelledOuterLayers
from simulator.stages.stages_spec import StagesSpec

LAYERS: Final = 8  # of a stage, for its name: its law counts
DEVICE: Final = "cpu"


class Rank:
    """One rank of a pipeline, in one life of its process."""

    def __init__(self, role: Role, me: Member, meeting: Meeting, ready: Readiness) -> None:
        self._role, self._me, self._meeting, self._ready = role, me, meeting, ready

    async def run(self, stop: asyncio.Event) -> None:
        """Serve in one group after another until stop is set."""
        life = current_incarnation() or Incarnation()
        await serve_groups(self._role, self._me, lambda: self._meeting.join(self._me.rank, life), stop)

    def not_ready_reason(self) -> str | None:
        """Why it is not ready; None when it is."""
        return self._ready()


def front_rank(
    settings: VerifierSettings,
    spec: StagesSpec,
    vocab: int,
    meeting: Meeting,
    drafter: Callable[[], TreeDrafter | None],
) -> Factory:
    """The factory of rank 0, which is the verifier. settings: those of a whole target as well."""

    def load() -> PipelinedTarget:
        return PipelinedTarget(
            ModelledOuterLayers(vocab, spec.head),
            positions=settings.max_context or settings.kv_tokens,
            vocabulary=modelled_vocabulary(vocab),
            vocab=vocab,
            kv_tokens=settings.kv_tokens,
            page_tokens=settings.page_tokens,
            prefix_sharing=settings.prefix_sharing,
            device=DEVICE,
        )

    def assign(facts: Sequence[Facts]) -> Assign:
        return Assign((LAYERS,) * (len(facts) - 1), CALL_COST[DEVICE])

    def start(given: Surroundings) -> Rank:
        ready = Readiness()
        own = settings.model_copy(update={"seed": given.ids.bits(31) + 1})
        parts = FrontParts(_facts(0, settings, StageLaw(0.0, 0.0)), assign, load, lambda _: drafter())
        role = FrontRank(own, given.broker, given.compute, given.registry, ready, parts)
        return Rank(role, Member(0, spec.count + 1, "", 0), meeting, ready)

    return start


def stage_rank(settings: VerifierSettings, spec: StagesSpec, rank: int, meeting: Meeting) -> Factory:
    """The factory of a stage, from rank 1."""
    law = spec.laws[rank - 1]

    def load(assign: Assign) -> ModelledBlock:
        return ModelledBlock(assign.layers[rank - 1], settings.page_tokens, first=rank == 1)

    def cost_s(piece: Piece) -> float:
        return law.pass_ms(sum(row.count for row in piece.rows)) / 1e3

    def start(given: Surroundings) -> Rank:
        ready = Readiness()
        me = Member(rank, spec.count + 1, "", 0)
        role = StageRank(me, given.compute, ready, _facts(rank, settings, law), load, cost_s)
        return Rank(role, me, meeting, ready)

    return start


def _facts(rank: int, settings: VerifierSettings, law: StageLaw) -> Facts:
    """What a rank says of itself; its speed is that of its law."""
    return Facts(
        rank=rank,
        release="",
        libraries="",
        model="modelled",
        dtype="modelled",
        kv_tokens=settings.kv_tokens,
        page_tokens=settings.page_tokens,
        device=DEVICE,
        layer_ms=law.beta_ms / LAYERS,
        token_ms=law.per_token_ms / LAYERS,
    )
