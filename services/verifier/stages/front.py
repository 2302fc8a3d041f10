"""Rank 0 of a pipeline: the verifier over the stages of a group, in one group after another."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from services.verifier.stages.link import Links
from services.verifier.stages.messages import Assign, Facts
from services.verifier.stages.pipelined_passes import PipelinedPasses
from services.verifier.stages.pipelined_target import PipelinedTarget
from services.verifier.stages.ring import Ring
from services.verifier.stages.stage_law import pieces_in_flight, rows_worth_sending, stage_law
from services.verifier.stages.stage_metrics import StageMetrics
from services.verifier.trees.piece_flow import PieceFlow
from services.verifier.trees.tree_engine import TreeEngine
from services.verifier.trees.tree_metrics import TreeMetrics
from services.verifier.verifier import Verifier
from shared.broker.contract import Broker
from shared.compute.compute import Compute
from shared.compute.tree_drafter import TreeDrafter
from shared.runtime.ids import Ids
from shared.runtime.settings import VerifierSettings

log = structlog.get_logger()


class Readiness:
    """What a rank's health page says, also while there is no verifier to ask."""

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


@dataclass(frozen=True, slots=True)
class FrontParts:
    """What rank 0 is made of. assign: the stages' layers, by everybody's facts. load, drafter: block while loading."""

    facts: Facts
    assign: Callable[[Sequence[Facts]], Assign]
    load: Callable[[], PipelinedTarget]
    drafter: Callable[[PipelinedTarget], TreeDrafter | None]


class FrontRank:
    """Rank 0. What it has loaded stays; verifier, sessions, pool and metrics are new in every group."""

    def __init__(
        self,
        settings: VerifierSettings,
        broker: Broker,
        compute: Compute,
        registry: CollectorRegistry,
        ready: Readiness,
        parts: FrontParts,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._compute = compute
        self._registry = registry
        self._ready = ready
        self._parts = parts
        self._drafter: TreeDrafter | None = None

    async def serve(self, links: Links, stop: asyncio.Event) -> None:
        """See Role."""
        metrics = _OfOneGroup()
        self._registry.register(metrics)
        try:
            await self._serve(links, stop, metrics.registry)
        finally:
            self._ready.verifier = None
            self._registry.unregister(metrics)

    async def _serve(self, links: Links, stop: asyncio.Event, registry: CollectorRegistry) -> None:
        settings, compute, ready, parts = self._settings, self._compute, self._ready, self._parts
        ready.reason = "loading the target"
        ring = Ring(parts.facts, settings.stages, links.inbound, links.outbound)
        assigned = await ring.start(parts.assign)
        async with asyncio.TaskGroup() as group:
            registry.register(StageMetrics(ring))
            group.create_task(ring.run(stop))  # beats, also while everybody loads
            tracing = [group.create_task(self._trace(ring))] if settings.trace else []
            target = await compute.run(parts.load)
            if self._drafter is None:
                self._drafter = await compute.run(partial(parts.drafter, target))
            await ring.ready()
            log.info("group ready", stages=ring.stages, layers=assigned.layers, pool=target.pool_tokens)
            passes = PipelinedPasses(target, ring, compute)
            verifier = ready.verifier = Verifier(
                settings,
                self._broker,
                target,
                compute,
                Ids(settings.seed),
                registry,
                target.vocabulary_blocks,
                passes=passes,
            )
            if self._drafter is not None:
                await compute.run(self._drafter.close)  # sessions of the group before
            law = stage_law(assigned.layers, ring.facts)
            passes.engine = TreeEngine(
                target,
                ring,
                compute,
                self._drafter,
                verifier.planning,
                verifier.commit_step,
                partial(rows_worth_sending, law),
                PieceFlow(law, pieces_in_flight(assigned.layers, ring.facts)),
            )
            registry.register(TreeMetrics(passes.engine))
            trees = group.create_task(passes.engine.run())
            await verifier.run(stop)
            trees.cancel()
            await ring.end()
            for task in tracing:
                task.cancel()

    async def _trace(self, ring: Ring) -> None:
        """Write what the stages did."""
        await ring.timeline.run(self._settings.name or "verifier", ring.stages, self._broker.streams.trace)


class _OfOneGroup(Collector):
    """The metrics of one group's verifier: they start at zero with it, as those of a new process do."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self.registry.collect()
