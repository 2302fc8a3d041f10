"""Emulated devices in one process: each is a draft worker with its own connections to the broker."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import getpagesize
from typing import Any, Final

from prometheus_client import CollectorRegistry

from shared.broker.connections import Connections
from shared.cells.cell import Cell
from shared.runtime.settings import DraftWorkerSettings, load
from shared.scenario.scenario import DeviceSpec

SAMPLE_S: Final = 1.0
COUNTS: Final = {
    "drafts": "outrider_device_drafts_total",
    "drafted_tokens": "outrider_device_drafted_tokens_total",
    "sends_refused": "outrider_device_broker_full_total",
}


@dataclass(frozen=True, slots=True)
class FleetSample:
    """The fleet at one time. at_s: since the start; counts: since the start; broker_us: CPU time of all commands."""

    at_s: float
    ready: int
    sessions: int
    drafts: int
    drafted_tokens: int
    messages_in: int
    refused: int
    sends_refused: int
    bytes_in: int
    bytes_out: int
    broker_us: int
    broker_calls: int
    memory_mib: float


async def run_fleet(
    devices: Sequence[DeviceSpec],
    recordings: Path | None,
    broker_url: str,
    stop: asyncio.Event,
    seconds: float | None,
    cells: Mapping[str, Cell],
    on_sample: Callable[[FleetSample], None],
) -> list[FleetSample]:
    """Run the devices until stop is set or `seconds` have passed. on_sample is called every second.

    cells: those that devices name, by id. Raises what a device raises.
    """
    from services.draft_worker.fleet import Fleet, radios_of, read_recordings  # noqa: PLC0415

    settings = load(DraftWorkerSettings, broker_url=broker_url)
    texts = read_recordings(recordings) if recordings else None
    samples: list[FleetSample] = []
    broker = Connections(broker_url)
    async with Fleet(devices, texts, settings, radios_of(cells)) as fleet:
        serving = asyncio.create_task(fleet.run(stop))
        began = time.perf_counter()
        until = began + seconds if seconds is not None else None
        try:
            while not serving.done() and not stop.is_set():
                await asyncio.wait({serving, ended := asyncio.create_task(stop.wait())}, timeout=SAMPLE_S)
                ended.cancel()
                ready = len(devices) - len(fleet.not_ready_reasons())
                samples.append(await _sample(fleet.registry, broker, time.perf_counter() - began, ready))
                on_sample(samples[-1])
                if until is not None and time.perf_counter() > until:
                    stop.set()
        finally:
            stop.set()
            await serving
            await broker.close()
    return samples


async def _sample(registry: CollectorRegistry, broker: Connections, at_s: float, ready: int) -> FleetSample:
    def count(name: str, **labels: str) -> int:
        return round(registry.get_sample_value(name, labels) or 0.0)

    def every(name: str) -> int:
        return round(sum(s.value for m in registry.collect() for s in m.samples if s.name == name))

    stats = await broker.call("INFO", "commandstats")
    spent_us, calls = commands_time(stats.decode())
    return FleetSample(
        at_s=at_s,
        ready=ready,
        sessions=count("outrider_device_sessions"),
        messages_in=every("outrider_device_messages_total"),
        refused=every("outrider_device_refused_total"),
        bytes_in=count("outrider_device_link_bytes_total", direction="in"),
        bytes_out=count("outrider_device_link_bytes_total", direction="out"),
        broker_us=spent_us,
        broker_calls=calls,
        memory_mib=resident_mib(),
        **{name: count(metric) for name, metric in COUNTS.items()},
    )


def commands_time(stats: str) -> tuple[int, int]:
    """CPU microseconds and number of all commands, from INFO commandstats."""
    spent = calls = 0
    for line in stats.splitlines():
        _, _, values = line.partition(":")
        fields = dict(field.split("=", 1) for field in values.split(",") if "=" in field)
        spent += int(fields.get("usec", 0))
        calls += int(fields.get("calls", 0))
    return spent, calls


def resident_mib(pid: int | str = "self") -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * getpagesize() / 2**20


def fleet_metrics(samples: Sequence[FleetSample]) -> Mapping[str, Any]:
    """Rates from the first sample with the most ready devices to the last sample."""
    all_ready = max(sample.ready for sample in samples)
    first = next(sample for sample in samples if sample.ready == all_ready)
    last = samples[-1]
    seconds = max(last.at_s - first.at_s, 1e-9)
    drafts = last.drafts - first.drafts
    return {
        "devices_ready": last.ready,
        "seconds": seconds,
        "drafts_per_s": drafts / seconds,
        "drafted_tokens_per_s": (last.drafted_tokens - first.drafted_tokens) / seconds,
        "messages_in_per_s": (last.messages_in - first.messages_in) / seconds,
        "bytes_per_draft": (last.bytes_in + last.bytes_out - first.bytes_in - first.bytes_out)
        / max(1, drafts),
        "broker_calls_per_s": (last.broker_calls - first.broker_calls) / seconds,
        "broker_share": (last.broker_us - first.broker_us) / 1e6 / seconds,
        "broker_us_per_draft": (last.broker_us - first.broker_us) / max(1, drafts),
        "refused": last.refused - first.refused,
        "sends_refused": last.sends_refused - first.sends_refused,
        "memory_mib": last.memory_mib,
    }
