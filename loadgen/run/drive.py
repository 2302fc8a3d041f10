"""Open and closed load loops: send requests when they are due, and record the responses."""

import asyncio
import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from loadgen.client.chat_client import ChatClient
from loadgen.request import ChatRequest, Record
from loadgen.workload.schedule import ScheduledRequest

LEAD_S: Final = 0.05  # from now to the start of the schedule
FAILED_PAUSE_S: Final = 0.5  # shortest pause of a closed-loop user after a failed request
STOP_POLL_S: Final = 0.1  # between checks whether the run was stopped
MAX_BURST_S: Final = 0.005  # of sending overdue requests before answers and signals are handled


@dataclass(slots=True)
class RunState:
    """The state of a run in progress. Times are seconds of its client's clock.

    stop: set to end the run; no request is sent afterwards. records: requests that have ended, in the order of their
    ends. total: requests of the whole run, None if unknown. last_due: when the last request was due.
    on_end: called with every record that has ended, and with `started`.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    records: list[Record] = field(default_factory=list)
    started: float = 0.0
    sent: int = 0
    total: int | None = None
    last_due: float = 0.0
    on_end: Callable[[Record, float], None] | None = None


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection: a collection takes 10 ms and more, and requests leave no reference cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def open_loop(
    client: ChatClient, schedule: Sequence[ScheduledRequest], state: RunState, drain_s: float
) -> None:
    """Send every request when it is due, whatever happened to earlier ones. The last ones have drain_s to end."""
    state.started = client.now() + LEAD_S
    state.total = len(schedule)
    state.last_due = state.started + (schedule[-1].at if schedule else 0.0)
    in_flight: dict[asyncio.Task[Any], None] = {}  # in order: that of a set differs from process to process
    yielded = state.started
    for planned in schedule:
        due = state.started + planned.at
        if client.now() - max(due, yielded) > MAX_BURST_S:
            await asyncio.sleep(0)
            yielded = client.now()
        if not await _sleep_until(client, due, state.stop):
            break
        task = asyncio.create_task(_send(client, planned.request, state, due))
        state.sent += 1
        in_flight[task] = None
        task.add_done_callback(in_flight.pop)
    await _drain(in_flight, state, drain_s)


async def closed_loop(
    client: ChatClient,
    requests: Iterable[ChatRequest],
    state: RunState,
    concurrency: int,
    think_s: float,
    count: int | None,
    seconds: float | None,
    drain_s: float,
) -> None:
    """`concurrency` users, each of whom sends the next request think_s after an answer.

    A request is due when its user is ready to send it. The loop ends after `count` requests or `seconds`, whichever
    comes first; None: no such limit.
    """
    state.started = client.now()
    state.total = count
    queue = iter(requests) if count is None else islice(requests, count)
    until = state.started + seconds if seconds is not None else None

    async def user() -> None:
        due = state.started
        while not state.stop.is_set() and (until is None or due < until):
            if not await _sleep_until(client, due, state.stop) or (request := next(queue, None)) is None:
                return
            state.sent += 1
            state.last_due = max(state.last_due, due)
            record = await _send(client, request, state, due)
            due = record.ended + max(think_s, FAILED_PAUSE_S if record.error else 0.0)

    users = [asyncio.create_task(user()) for _ in range(concurrency)]
    await _wait(users, state.stop, seconds)
    await _drain(users, state, drain_s)


async def _send(client: ChatClient, request: ChatRequest, state: RunState, due: float) -> Record:
    """Send one request and record it, complete or not."""
    record = Record(request, due, client.now())
    try:
        await client.complete(record)
    finally:
        state.records.append(record)
        if state.on_end:
            state.on_end(record, state.started)
    return record


async def _drain(tasks: Iterable[asyncio.Task[Any]], state: RunState, drain_s: float) -> None:
    """Wait up to drain_s, or until the run is stopped, for requests in flight; then cancel the rest, in order."""
    ended, left = list[asyncio.Task[Any]](), list[asyncio.Task[Any]]()
    for task in tasks:
        (ended if task.done() else left).append(task)
    if not state.stop.is_set():
        await _wait(left, state.stop, drain_s)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in ended:
        task.result()  # raises what a fault of our own raised


async def _wait(tasks: Collection[asyncio.Task[Any]], stop: asyncio.Event, seconds: float | None) -> None:
    """Until all tasks have ended, stop is set, or `seconds` have passed."""
    if not tasks:
        return
    stopped = asyncio.create_task(stop.wait())
    all_ended = asyncio.create_task(asyncio.wait(tasks))
    await asyncio.wait({stopped, all_ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    all_ended.cancel()


async def _sleep_until(client: ChatClient, due: float, stop: asyncio.Event) -> bool:
    """Sleep until `due`; False if stop was set first. Polls stop, which costs less than waiting for it as well."""
    while (wait_s := due - client.now()) > 0 and not stop.is_set():  # noqa: ASYNC110  # it waits for a time
        await asyncio.sleep(min(wait_s, STOP_POLL_S))
    return not stop.is_set()
