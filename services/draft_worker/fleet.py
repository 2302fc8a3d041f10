"""`python -m services.draft_worker.fleet`: all emulated devices of a scenario in one process.

    python -m services.draft_worker.fleet --scenario FILE --recordings FILE --verify-ms 40

Each device is a draft worker like any other, with its own connections and its own link, or a place in a cell that it
shares with others of this process. Only its drafter is replayed (shared/compute/replay.py) or, without recordings, the
modelled one that goes with the modelled verifier. Settings as for a draft worker; devices are device-0, device-1, ...
"""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics
from services.draft_worker.radio import Radio
from services.draft_worker.worker import DraftWorker
from shared.broker.device_broker import DeviceBroker
from shared.cells.cell import Cell
from shared.compute.compute import InlineCompute
from shared.compute.drafter import Drafter
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.replay import Recordings, ReplayDrafter
from shared.runtime import logs
from shared.runtime.connect import connect_device
from shared.runtime.health import HealthServer
from shared.runtime.ids import Ids
from shared.runtime.service import BadFile, main
from shared.runtime.settings import DraftWorkerSettings, load
from shared.scenario.scenario import DeviceSpec, ScenarioError, read_scenario

NO_CELLS: Final[Mapping[str, Radio]] = MappingProxyType({})


class Fleet:
    """Emulated devices. Use as `async with Fleet(...) as fleet`; then `run`."""

    def __init__(
        self,
        devices: Sequence[DeviceSpec],
        recordings: Recordings | None,
        settings: DraftWorkerSettings,
        radios: Mapping[str, Radio] = NO_CELLS,
    ) -> None:
        """recordings: the target's texts; None = modelled drafts. settings: shared by all devices.

        radios: the cells that the devices name, by id; fleets of one process may share them.
        """
        self.registry = CollectorRegistry()
        self._radios = radios
        metrics = Metrics(self.registry)
        self._brokers: list[DeviceBroker] = []
        self._workers = [self._worker(device, recordings, settings, metrics) for device in devices]

    async def __aenter__(self) -> "Fleet":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(broker.close() for broker in self._brokers))

    def not_ready_reasons(self) -> list[str]:
        """The reasons of all devices that are not ready."""
        return [why for worker in self._workers if (why := worker.not_ready_reason())]

    async def run(self, stop: asyncio.Event) -> None:
        """Run all devices until stop is set. An error of one ends all and is raised."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.run(stop))

    def _worker(
        self,
        device: DeviceSpec,
        recordings: Recordings | None,
        settings: DraftWorkerSettings,
        metrics: Metrics,
    ) -> DraftWorker:
        """One device, with its own connections."""
        own = {
            "name": device.name,
            "drafter": "modelled",
            "draft_model": "replayed" if recordings else "",  # what status shows
            "link_ms": device.delay_ms,
            "link_jitter_ms": device.jitter_ms,
            "link_kbit_s": device.kbit_s,
            "link_loss": device.loss,
            "cell": device.cell,
            "cell_eta": device.eta if device.cell else 1.0,
        }
        mine = settings.model_copy(update=own)
        broker = connect_device(mine, device.name)
        self._brokers.append(broker)
        drafter = _drafter(device, recordings, settings)
        worker = DraftWorker(mine, broker, drafter, InlineCompute(), Ids(device.seed), metrics)
        worker.link.payload_bits_per_token = device.payload_bits_per_token
        if device.cell:
            worker.link.station = self._radios[device.cell].station(device.name, device.eta)
        return worker


async def run(stop: asyncio.Event) -> None:
    """Serve with all devices until stop is set."""
    args = arguments()
    settings = load(DraftWorkerSettings)
    logs.configure(settings.log_level, settings.log_format, role="draft_worker", name=settings.name)
    try:
        scenario = read_scenario(args.scenario)
        devices = scenario.fleet(args.verify_ms)
        cells = scenario.cells_of(devices)
        recordings = read_recordings(args.recordings) if args.recordings else None
    except (ScenarioError, OSError, ValueError, KeyError) as error:
        raise BadFile(str(error)) from None
    async with Fleet(devices, recordings, settings, radios_of(cells)) as fleet:

        def not_ready_reason() -> str | None:
            return next(iter(fleet.not_ready_reasons()), None)

        async with HealthServer(
            settings.health_host, settings.health_port, fleet.registry, not_ready_reason, settings.stack
        ):
            await fleet.run(stop)


def radios_of(cells: Mapping[str, Cell]) -> dict[str, Radio]:
    """The cells of a scenario (Scenario.cells_of) on the running loop, by id."""
    return {name: Radio(cell) for name, cell in cells.items()}


def _drafter(device: DeviceSpec, recordings: Recordings | None, settings: DraftWorkerSettings) -> Drafter:
    if recordings is not None:
        return ReplayDrafter(recordings, device.alpha, device.draft_ms)
    return ModelledDrafter(
        device.alpha,
        draft_ms=device.draft_ms,
        vocab=settings.model_vocab,
        capacity=settings.draft_sessions,
        kv_tokens=settings.draft_kv_tokens,
    )


def read_recordings(path: Path) -> Recordings:
    """Read recordings as cli/race/recording.py writes them. Raises OSError, ValueError, KeyError."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Recordings(tuple(tuple(text) for text in data["texts"]), data["vocabulary"], data["vocab"])


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="The emulated devices of a scenario.")
    parser.add_argument("--scenario", type=Path, required=True)
    parser.add_argument(
        "--recordings", type=Path, help="what the target said; without it drafts are modelled"
    )
    parser.add_argument("--verify-ms", type=float, required=True, help="the scenario's unit `verify`")
    return parser.parse_args()


if __name__ == "__main__":
    main("draft_worker", run)
