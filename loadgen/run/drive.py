"""Open and closed load loops: send requests when they are due, and record the responses."""

import asyncio
import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from loadgen.client.streaming import Client, begin
from loadgen.request import ChatRequest, Record
from loadgen.workload.schedule import Planned

LEAD_S: Final = 0.05  # from now to a schedule's beginning
FAILED_S: Final = 0.5  # a user whose request failed asks again no sooner
LOOK_S: Final = 0.1  # between looks whether a run is over
BUSY_S: Final = (
    0.005  # that requests which are overdue may be sent for before answers and signals have their turn
)


@dataclass(slots=True)
class RunState:
    """A run under way. Times on perf_counter's clock; over: told to end, nothing is sent any more."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[Record] = field(default_factory=list)  # of requests that ended, in that order
    started: float = 0.0
    sent: int = 0
    wanted: int | None = None  # requests in all, where it is known
    last_due: float = 0.0


@contextmanager
def gc_paused() -> Iterator[None]:
    """No garbage collection meanwhile: one takes 10 ms and more, and requests leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def open_loop(client: Client, schedule: Sequence[Planned], course: RunState, drain_s: float) -> None:
    """Every request at its time, whatever became of those before it; drain_s for the last ones to end."""
    course.started = time.perf_counter() + LEAD_S
    course.wanted = len(schedule)
    course.last_due = course.started + (schedule[-1].at if schedule else 0.0)
    flying: set[asyncio.Task[Any]] = set()
    yielded = course.started
    for planned in schedule:
        due = course.started + planned.at
        if time.perf_counter() - max(due, yielded) > BUSY_S:
            await asyncio.sleep(0)
            yielded = time.perf_counter()
        if not await _until(due, course.over):
            break
        task = asyncio.create_task(_one(client, planned.request, course, due))
        course.sent += 1
        flying.add(task)
        task.add_done_callback(flying.discard)
    await _drain(flying, course, drain_s)


async def closed_loop(
    client: Client,
    requests: Iterable[ChatRequest],
    course: RunState,
    concurrency: int,
    think_s: float,
    count: int | None,
    seconds: float | None,
    drain_s: float,
) -> None:
    """So many users; each asks again think_s after its answer. Due is a request when its user is ready for it."""
    course.started = time.perf_counter()
    course.wanted = count
    queue = iter(requests) if count is None else islice(requests, count)
    until = course.started + seconds if seconds is not None else None

    async def user() -> None:
        due = course.started
        while not course.over.is_set() and (until is None or due < until):
            if not await _until(due, course.over) or (request := next(queue, None)) is None:
                return
            course.sent += 1
            course.last_due = max(course.last_due, due)
            record = await _one(client, request, course, due)
            due = record.ended + max(think_s, FAILED_S if record.error else 0.0)

    users = {asyncio.create_task(user()) for _ in range(concurrency)}
    await _ended(users, course.over, seconds)
    await _drain(users, course, drain_s)


async def _one(client: Client, request: ChatRequest, course: RunState, due: float) -> Record:
    """Send it, and what was seen to its end."""
    record = begin(request, due)
    try:
        await client.complete(record)
    finally:
        course.records.append(record)
    return record


async def _drain(tasks: set[asyncio.Task[Any]], course: RunState, drain_s: float) -> None:
    """Wait for what is under way: drain_s, or until told to end. What has not ended then is cut off and kept."""
    left = {task for task in tasks if not task.done()}
    if not course.over.is_set():
        await _ended(left, course.over, drain_s)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in tasks - left:
        task.result()  # a programming error is not for hiding


async def _ended(tasks: set[asyncio.Task[Any]], over: asyncio.Event, seconds: float | None) -> None:
    """Until all of them have ended, or told to end, or so many seconds have passed."""
    if not tasks:
        return
    told = asyncio.create_task(over.wait())
    everybody = asyncio.create_task(asyncio.wait(tasks))
    await asyncio.wait({told, everybody}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    everybody.cancel()


async def _until(due: float, over: asyncio.Event) -> bool:
    """Wait for a time. False when told to end before, which is looked at now and then: to wait for it costs more."""
    while (wait_s := due - time.perf_counter()) > 0 and not over.is_set():  # noqa: ASYNC110  # it is the time we wait for
        await asyncio.sleep(min(wait_s, LOOK_S))
    return not over.is_set()
