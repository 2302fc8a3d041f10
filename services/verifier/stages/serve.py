"""A rank of a pipeline as a process: rank 0 is the verifier, all others compute layers."""

import asyncio
import os
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from services.verifier.build import build_tree_drafter
from services.verifier.stages.front import FrontParts, FrontRank, Readiness
from services.verifier.stages.group import GlooLinks, join
from services.verifier.stages.member import Member, member
from services.verifier.stages.messages import Facts
from services.verifier.stages.rank_loop import Role, StageRank, serve_groups
from services.verifier.stages.rank_parts import (
    Assigner,
    BlockLoader,
    FrontLoader,
    ModelPlan,
    facts_of,
    model_plan,
)
from services.verifier.stages.rendezvous import Rendezvous
from shared.broker.contract import Broker
from shared.compute.compute import Compute
from shared.runtime.health import HealthServer
from shared.runtime.ids import Ids
from shared.runtime.service import BadFile
from shared.runtime.settings import SettingsError, VerifierSettings


async def serve_rank(
    settings: VerifierSettings,
    broker: Broker,
    compute: Compute,
    registry: CollectorRegistry,
    stop: asyncio.Event,
) -> None:
    """Join a group and serve in it, and in those after it, until stop is set or somebody does not come back.

    Raises Lost, SettingsError and BadFile.
    """
    me = member(settings.stages)
    structlog.contextvars.bind_contextvars(rank=me.rank)
    ready = Readiness()
    # Ranks on one host have one set of settings: only the first of them has the port.
    port = settings.health_port if os.environ.get("LOCAL_RANK", "0") == "0" else 0
    async with HealthServer(settings.health_host, port, registry, ready, settings.stack):
        ready.reason = "reading the model's files"
        plan, facts = await compute.run(partial(_prepare, settings, me))
        role: Role = (
            StageRank(me, compute, ready, facts, BlockLoader(settings, plan, me.rank))
            if me.rank
            else FrontRank(settings, broker, compute, registry, ready, _front(settings, plan, facts))
        )
        meeting = Rendezvous(me, Ids().token(8))

        async def join_next() -> GlooLinks:
            meeting.leave()
            return await join(me, meeting, compute, settings.stage_wait_s, ready.wait_for)

        await serve_groups(role, me, join_next, stop)


def _prepare(settings: VerifierSettings, me: Member) -> tuple[ModelPlan, Facts]:
    """The model and what this rank is. Blocks. Raises SettingsError and BadFile, which name the rank."""
    try:
        plan = model_plan(settings)
        return plan, facts_of(settings, plan, me.rank)
    except (SettingsError, BadFile) as error:
        raise type(error)(f"rank {me.rank}: {error}") from error


def _front(settings: VerifierSettings, plan: ModelPlan, facts: Facts) -> FrontParts:
    """What rank 0 is made of."""
    return FrontParts(
        facts,
        Assigner(settings, plan),
        FrontLoader(settings, plan),
        partial(build_tree_drafter, settings),
    )
