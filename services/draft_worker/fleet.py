"""`python -m services.draft_worker.fleet`: the emulated devices of a scenario, all in one process.

    python -m services.draft_worker.fleet --scenario FILE --recordings FILE --verify-ms 40

Each device is a draft worker like any other, with its own connections and its own link; only its drafter is replayed
(shared/compute/replay.py). Settings as for a draft worker; the devices are device-0, device-1, ...
"""

import argparse
import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.draft_worker.worker import DraftWorker
from shared.broker.connect import connect_device
from shared.compute.compute import InlineCompute
from shared.compute.replay import Recordings, ReplayDrafter
from shared.runtime import logs
from shared.runtime.health import HealthServer
from shared.runtime.ids import Ids
from shared.runtime.service import BadFile, main
from shared.runtime.settings import DraftWorkerSettings, load
from shared.scenario.scenario import Device, ScenarioError, read_scenario


async def run(stop: asyncio.Event) -> None:
    """Serve with all devices until stop is set."""
    args = arguments()
    settings = load(DraftWorkerSettings)
    logs.configure(settings.log_level, settings.log_format, role="draft_worker", name=settings.name)
    try:
        fleet = read_scenario(args.scenario).fleet(args.verify_ms)
        recordings = read_recordings(args.recordings)
    except (ScenarioError, OSError, ValueError, KeyError) as error:
        raise BadFile(str(error)) from None
    async with AsyncExitStack() as closing:
        workers = [make_worker(device, recordings, settings, closing) for device in fleet]

        def objection() -> str | None:
            return next((why for worker in workers if (why := worker.objection())), None)

        registry = CollectorRegistry()
        health = HealthServer(settings.health_host, settings.health_port, registry, objection)
        async with health, asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run(stop))


def make_worker(
    device: Device, recordings: Recordings, settings: DraftWorkerSettings, closing: AsyncExitStack
) -> DraftWorker:
    """One device, with its own connections."""
    own = {"name": device.name, "link_ms": device.delay_ms, "link_jitter_ms": device.jitter_ms}
    mine = settings.model_copy(update=own)
    broker = connect_device(mine, device.name)
    closing.push_async_callback(broker.close)
    drafter = ReplayDrafter(recordings, device.alpha, device.draft_ms, device.seed)
    return DraftWorker(mine, broker, drafter, InlineCompute(), Ids(device.seed), CollectorRegistry())


def read_recordings(path: Path) -> Recordings:
    """As services/bench/recording.py writes them. Raises OSError, ValueError, KeyError."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Recordings(tuple(tuple(text) for text in data["texts"]), data["vocabulary"], data["vocab"])


def arguments() -> argparse.Namespace:
    """Of the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The emulated devices of a scenario.")
    parser.add_argument("--scenario", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, required=True, help="what the target said")
    parser.add_argument("--verify-ms", type=float, required=True, help="the scenario's unit `verify`")
    return parser.parse_args()


if __name__ == "__main__":
    main("draft_worker", run)
