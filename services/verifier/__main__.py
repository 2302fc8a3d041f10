"""`python -m services.verifier`: the core as a process."""

import asyncio
import os
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from services.verifier.build import build_drafter, build_target
from services.verifier.verifier import Verifier
from shared.compute.compute import ThreadCompute
from shared.runtime import logs, service
from shared.runtime.connect import connect
from shared.runtime.health import HealthServer
from shared.runtime.ids import Ids
from shared.runtime.settings import VerifierSettings, load_named

log = structlog.get_logger()


async def run(stop: asyncio.Event) -> None:
    """Load the target and serve until stop is set."""
    settings = load_named(VerifierSettings)
    logs.configure(settings.log_level, settings.log_format, role="verifier", name=settings.name)
    registry = CollectorRegistry()
    broker = connect(settings)
    compute = ThreadCompute("verify")
    verifier: Verifier | None = None

    def ready() -> str | None:
        return "loading the target" if verifier is None else verifier.not_ready_reason()

    try:
        if settings.stages > 1:
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # a neighbour's end is no trace of C++
            from services.verifier.stages.serve import serve_rank  # noqa: PLC0415  # torch, seconds

            await serve_rank(settings, broker, compute, registry, stop)
            return
        async with HealthServer(settings.health_host, settings.health_port, registry, ready, settings.stack):
            target, blocks = await compute.run(partial(build_target, settings))
            log.info("target loaded", vocab=target.vocab, pool=target.pool_tokens, context=target.max_context)
            drafter = await compute.run(partial(build_drafter, settings, target))
            ids = Ids(settings.seed)
            verifier = Verifier(settings, broker, target, compute, ids, registry, blocks, drafter)
            await verifier.run(stop)
    finally:
        compute.close()
        await broker.close()


if __name__ == "__main__":
    service.main("verifier", run)
