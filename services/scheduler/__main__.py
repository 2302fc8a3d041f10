"""`python -m services.scheduler`: the scheduler as a process."""

import asyncio
import sys
from typing import Final

from prometheus_client import CollectorRegistry

from services.scheduler.scheduler import Scheduler
from shared.compute.compute import ThreadCompute
from shared.runtime import logs, service
from shared.runtime.connect import connect
from shared.runtime.health import HealthServer
from shared.runtime.ids import Ids
from shared.runtime.settings import SchedulerSettings, load_named

SWITCH_S: Final = 0.0005  # Python's switch interval: the planner's thread yields to serving this soon


async def run(stop: asyncio.Event) -> None:
    """Schedule until stop is set."""
    settings = load_named(SchedulerSettings)
    logs.configure(settings.log_level, settings.log_format, role="scheduler", name=settings.name)
    registry = CollectorRegistry()
    broker = connect(settings)
    sys.setswitchinterval(SWITCH_S)
    planning = ThreadCompute("planner")
    try:
        scheduler = Scheduler(settings, broker, Ids(settings.seed), registry, planning)
        async with HealthServer(
            settings.health_host, settings.health_port, registry, scheduler.not_ready_reason, settings.stack
        ):
            await scheduler.run(stop)
    finally:
        await broker.close()
        planning.close()


if __name__ == "__main__":
    service.main("scheduler", run)
