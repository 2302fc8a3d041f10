"""Measures the highest load this machine can generate, against the mock server in a separate process."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import aiohttp
import numpy as np

from loadgen.client.streaming import Client
from loadgen.metrics.summary import dispatch_ms, summarise
from loadgen.request import Record
from loadgen.results.partial_rows import PartialRows
from loadgen.run.drive import RunState, gc_paused, open_loop
from loadgen.run.runner import raise_file_limit
from loadgen.workload.arrivals import constant_rate
from loadgen.workload.lengths import Lengths
from loadgen.workload.prompt_source import of_kinds
from loadgen.workload.schedule import Workload, open_schedule

RATES: Final = (250, 500, 1000, 2000, 3000, 4000, 6000, 8000)
SECONDS: Final = 5.0
GRACE_S: Final = 3.0  # after the last arrival; a request that has no answer by then was not kept up with
START_S: Final = 20.0
STOP_S: Final = 5.0
KEPT_UP: Final = 0.97
LATE_MS: Final = 10.0  # dispatch delay p99 beyond which no result would be valid


@dataclass(frozen=True, slots=True)
class RateStep:
    """The measurement at one rate (requests/s). served: requests/s; busy: share of a core that this process used."""

    rate: float
    served: float
    errors: int
    dispatch_median_ms: float
    dispatch_p99_ms: float
    busy: float

    @property
    def kept_up(self) -> bool:
        """Whether requests were sent in time and answered."""
        return not self.errors and self.served > KEPT_UP * self.rate and self.dispatch_p99_ms <= LATE_MS


async def ceiling(on_step: Callable[[RateStep], None]) -> list[RateStep]:
    """Measure rising rates up to the first that is not kept up with; on_step is called after each.

    Raises OSError, TimeoutError.
    """
    raise_file_limit()
    steps: list[RateStep] = []
    with TemporaryDirectory(prefix="loadgen-") as folder:
        async with _mock() as url:
            for rate in RATES:
                rows = PartialRows(Path(folder) / f"{rate}.json", {})  # as in a run
                steps.append(await _step(url, rate, rows.add))
                rows.close(keep=False)
                on_step(steps[-1])
                if not steps[-1].kept_up:
                    break
    return steps


async def _step(url: str, rate: float, on_end: Callable[[Record, float], None] | None = None) -> RateStep:
    one_token = Lengths(1, 1)
    workload = Workload("mock", of_kinds(), one_token, one_token)
    schedule = open_schedule(workload, 1, constant_rate(rate), "poisson", 1.0, None, SECONDS)
    state = RunState(on_end=on_end)
    async with Client(url, plain=True, timeout_s=SECONDS + GRACE_S) as client:
        cpu_s, began = time.process_time(), time.perf_counter()
        with gc_paused():
            ending = asyncio.get_running_loop().call_later(SECONDS + GRACE_S, state.stop.set)
            await open_loop(client, schedule, state, GRACE_S)
            ending.cancel()
        took = time.perf_counter() - began
        busy = (time.process_time() - cpu_s) / took
    seen = summarise(state.records)
    scheduled = len(schedule) / SECONDS  # requests/s: a Poisson schedule rarely has exactly the rate
    good = seen.requests - seen.errors
    served = good / max(seen.duration_s, SECONDS) * rate / scheduled
    late = np.array([*map(dispatch_ms, state.records)] or [np.inf])
    return RateStep(
        rate, served, seen.errors, float(np.median(late)), float(np.percentile(late, 99)), min(1.0, busy)
    )


@asynccontextmanager
async def _mock() -> AsyncIterator[str]:
    """The URL of a mock server, in a process of its own, that answers at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("mock-server", "--port", str(port), "--workers", "1000", "--service-ms", "0", "--tokens", "1")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadgen", *words, stdout=asyncio.subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(START_S), Client(url) as client:
            while True:
                try:
                    await client.model()
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
