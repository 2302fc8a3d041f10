"""One cohort: a request to each device of a cell at the same time, on a stack that runs."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cli.admin import Admin
from cli.bench.cell.carried import CarriedWatch
from cli.command.errors import CommandError
from cli.stack.stack import LocalStack
from loadgen.client.streaming import Client
from loadgen.request import ChatRequest, Record
from services.draft_worker.fleet import Fleet
from services.draft_worker.radio import Radio
from shared.runtime.settings import DraftWorkerSettings, load
from shared.scenario.scenario import DeviceSpec

READY_S: Final = 30.0
SETTLE_S: Final = 1.5  # for the shares of the devices that have come
PROMPTS: Final = (128, 1024)  # tokens
FIRST_ID: Final = 300  # above it all ids take three bytes
ANSWER: Final = 96


@dataclass(frozen=True, slots=True)
class Cohort:
    """What a cohort took, in seconds, and what it carried. uploading: share of the last one's time on the air."""

    latency_s: float
    ends_s: dict[str, float]
    uploading: float
    carried: dict[str, dict[str, float | None]]
    texts: dict[str, tuple[int, ...]]


def requests_of(devices: Sequence[DeviceSpec], vocab: int, model: str) -> list[ChatRequest]:
    """A request for each device: prompt lengths spread over PROMPTS in an order of chance, the same every time."""
    rng = np.random.default_rng(11)
    lengths = rng.permutation(np.linspace(*PROMPTS, len(devices)).astype(int))
    return [
        ChatRequest(
            id=device.name,
            model=model,
            prompt=tuple(map(int, rng.integers(FIRST_ID, vocab, length))),
            max_tokens=ANSWER,
            seed=7 + n,
            device=device.name,
            raw=True,
            ignore_eos=True,
        )
        for n, (device, length) in enumerate(zip(devices, lengths, strict=True))
    ]


async def run_cohort(
    stack: LocalStack,
    devices: Sequence[DeviceSpec],
    radio: Radio,
    requests: Sequence[ChatRequest],
    visitor: "Visitor | None" = None,
) -> Cohort:
    """Let the devices join, send all requests at once and wait for the last answer. Raises CommandError."""
    settings = load(DraftWorkerSettings, broker_url=stack.broker_url)
    stop, (cell,) = asyncio.Event(), {device.cell for device in devices}
    async with Fleet(devices, None, settings, {cell: radio}) as fleet, Admin(stack.url) as admin:
        serving = asyncio.create_task(fleet.run(stop))
        try:
            await _joined(admin, {device.name for device in devices})
            watch = CarriedWatch(radio, fleet.registry)
            watching = asyncio.create_task(watch.run())
            async with Client(stack.url) as client:
                began = client.now()
                visiting = visitor.visit(stack, radio, client) if visitor else asyncio.sleep(0)
                *records, _ = await asyncio.gather(*map(client.chat, requests), visiting)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        finally:
            stop.set()
            await serving
        await _joined(admin, set())
    return _cohort([record for record in records if record is not None], began, watch)


def _cohort(records: Sequence[Record], began: float, watch: CarriedWatch) -> Cohort:
    for record in records:
        if record.error:
            raise CommandError(f"{record.request.id}: {record.error}")
    ends = {record.request.id: record.ended - began for record in records}
    last = max(ends, key=lambda name: ends[name])
    carried: dict[str, dict[str, float | None]] = {
        name: {"bits": one.bits, "active_s": one.active_s, "of_share": one.ratio}
        for name, one in watch.devices.items()
    }
    uploading = watch.devices[last].active_s / ends[last]
    return Cohort(ends[last], ends, uploading, carried, {r.request.id: tuple(r.tokens) for r in records})


async def _joined(admin: Admin, names: set[str]) -> None:
    """Wait until exactly these devices are alive, and have their shares."""
    try:
        async with asyncio.timeout(READY_S):
            while {beat["name"] for beat in await _devices(admin)} != names:
                await asyncio.sleep(0.05)
            while (await admin.status())["sessions"]:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise CommandError(f"after {READY_S:.0f} s the devices are not {', '.join(sorted(names))}") from None
    await asyncio.sleep(SETTLE_S)


async def _devices(admin: Admin) -> list[dict[str, Any]]:
    return [beat for beat in (await admin.status())["devices"] if beat["capacity"]]


@dataclass(frozen=True, slots=True)
class Visitor:
    """A device that joins while a cohort runs, serves one request and leaves."""

    device: DeviceSpec
    request: ChatRequest
    after_s: float

    async def visit(self, stack: LocalStack, radio: Radio, client: Client) -> None:
        """Raises CommandError when its request fails."""
        await asyncio.sleep(self.after_s)
        stop, settings = asyncio.Event(), load(DraftWorkerSettings, broker_url=stack.broker_url)
        async with Fleet([self.device], None, settings, {self.device.cell: radio}) as fleet:
            serving = asyncio.create_task(fleet.run(stop))
            try:
                record = await client.chat(self.request)
            finally:
                stop.set()
                await serving
        if record.error:
            raise CommandError(f"{self.device.name}: {record.error}")
