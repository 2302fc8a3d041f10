"""A rank of a pipeline as a process: rank 0 is the verifier, all others compute layers."""

import asyncio
import os
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from services.verifier.build import build_tree_drafter
from services.verifier.stages.group import Links, Member, join, member
from services.verifier.stages.pipelined_passes import PipelinedPasses
from services.verifier.stages.rank_parts import assignment, block_loader, facts_of, front_target, model_plan
from services.verifier.stages.ring import Ring
from services.verifier.stages.stage import Stage
from services.verifier.stages.stage_law import rows_worth_sending, stage_law
from services.verifier.trees.tree_engine import TreeEngine
from services.verifier.verifier import Verifier
from shared.broker.contract import Broker
from shared.compute.compute import Compute
from shared.runtime.health import HealthServer
from shared.runtime.ids import Ids
from shared.runtime.settings import VerifierSettings

log = structlog.get_logger()


class _Readiness:
    """What a health page says before there is a verifier to ask."""

    def __init__(self) -> None:
        self.reason: str | None = "starting"
        self.verifier: Verifier | None = None

    def wait_for(self, why: str) -> None:
        """Say whom we wait for, in the log as well when that changes."""
        if self.reason != (reason := f"waiting for {why}"):
            self.reason = reason
            log.info(reason)

    def __call__(self) -> str | None:
        return self.verifier.not_ready_reason() if self.verifier else self.reason


async def serve_rank(
    settings: VerifierSettings,
    broker: Broker,
    compute: Compute,
    registry: CollectorRegistry,
    stop: asyncio.Event,
) -> None:
    """Join the group and serve until stop is set, or the group ends. Raises Lost, SettingsError, BadFile."""
    me = member(settings.stages)
    ready = _Readiness()
    # Ranks on one host have one set of settings: only the first of them has the port.
    port = settings.health_port if os.environ.get("LOCAL_RANK", "0") == "0" else 0
    async with HealthServer(settings.health_host, port, registry, ready, settings.stack):
        joining = asyncio.ensure_future(
            join(me, Ids().token(8), compute, settings.stage_wait_s, ready.wait_for)
        )
        if not await done_before(joining, stop):
            return
        links = joining.result()
        try:
            if me.rank == 0:
                await _serve_front(settings, broker, compute, registry, links, ready, stop)
            else:
                await _serve_stage(settings, me, compute, links, ready)
        finally:
            links.close()


async def _serve_front(
    settings: VerifierSettings,
    broker: Broker,
    compute: Compute,
    registry: CollectorRegistry,
    links: Links,
    ready: _Readiness,
    stop: asyncio.Event,
) -> None:
    """Rank 0: start the group and be its verifier."""
    ready.reason = "loading the target"
    plan = await compute.run(partial(model_plan, settings))
    facts = await compute.run(partial(facts_of, settings, plan, 0))
    ring = Ring(facts, settings.stages, links.inbound, links.outbound)
    target = await compute.run(partial(front_target, settings, plan))
    assigned = await ring.start(partial(assignment, settings, plan, target.call_cost))
    await ring.ready()
    log.info("group ready", stages=ring.stages, layers=assigned.layers, pool=target.pool_tokens)
    passes = PipelinedPasses(target, ring, compute)
    async with asyncio.TaskGroup() as group:
        group.create_task(ring.run(stop))  # beats, also while the drafter is loaded
        drafter = await compute.run(partial(build_tree_drafter, settings, target))
        verifier = ready.verifier = Verifier(
            settings,
            broker,
            target,
            compute,
            Ids(settings.seed),
            registry,
            target.vocabulary_blocks,
            passes=passes,
        )
        trees = None
        if drafter is not None:
            worth = partial(rows_worth_sending, stage_law(assigned.layers, ring.facts))
            passes.engine = TreeEngine(
                target, ring, compute, drafter, verifier.planning, verifier.commit_step, worth, passes.depth
            )
            trees = group.create_task(passes.engine.run())
        await verifier.run(stop)
        if trees is not None:
            trees.cancel()
        await ring.end()


async def _serve_stage(
    settings: VerifierSettings, me: Member, compute: Compute, links: Links, ready: _Readiness
) -> None:
    """A stage: computes until rank 0 ends the group, so that nothing is cut off by a signal to all processes."""
    ready.reason = "loading its layers"
    plan = await compute.run(partial(model_plan, settings))
    facts = await compute.run(partial(facts_of, settings, plan, me.rank))
    last = me.rank == me.world - 1
    load = block_loader(settings, plan, me.rank)
    stage = Stage(facts, last, links.inbound, links.outbound, compute, load)
    ready.reason = None
    await stage.run()


async def done_before(task: "asyncio.Future[Links]", stop: asyncio.Event) -> bool:
    """Whether the task ends before stop is set; else it is cancelled."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        return False
    return True
