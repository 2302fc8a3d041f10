"""One run, from its plan to its result files."""

import asyncio
import resource
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from loadgen.client.chat_client import ChatClient
from loadgen.client.streaming import Client
from loadgen.metrics.stack_metrics import Delta, ScrapeError, mismatches, scrape, stack_metrics
from loadgen.results.result_file import clock_time, write_result
from loadgen.results.rows import write_rows
from loadgen.results.stack_timeline import TimelineError, mark, spans_since, write_spans
from loadgen.run.drive import RunState, closed_loop, gc_paused, open_loop
from loadgen.run.outcome import Criteria, RunOutcome, outcome_of
from loadgen.workload.schedule import ScheduledRequest, Workload, generate_requests
from shared.protocol.messages import Span


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. metrics: Prometheus pages of its services; broker: URL to read traces from, "" for none."""

    url: str
    api_key: str = ""
    plain: bool = False
    timeout_s: float = 600.0
    stall_s: float = 60.0
    retries: int = 0
    metrics: Sequence[str] = ()
    broker: str = ""


def client_of(endpoint: Endpoint) -> Client:
    """A client of this endpoint."""
    return Client(
        endpoint.url,
        endpoint.api_key,
        endpoint.timeout_s,
        stall_s=endpoint.stall_s,
        retries=endpoint.retries,
        plain=endpoint.plain,
    )


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A closed loop: each user sends the next request think_s after an answer."""

    concurrency: int
    think_s: float = 0.0
    requests: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run. load: a schedule or a closed loop. drain_s: for the last requests to end."""

    endpoint: Endpoint
    workload: Workload
    load: Sequence[ScheduledRequest] | ClosedLoop
    seed: int
    drain_s: float = 120.0
    criteria: Criteria = field(default_factory=Criteria)
    config: Mapping[str, Any] = field(default_factory=dict)  # options, for the result file


SOCKETS: Final = 65_536
SIDE_SUFFIXES: Final = (".requests.jsonl", ".requests.csv", ".spans.jsonl")  # of files beside the result file


async def run(plan: RunPlan, client: ChatClient, state: RunState) -> RunOutcome:
    """Run the plan to its end or until state.stop is set.

    Raises ScrapeError, TimelineError, but only before the first request.
    """
    raise_file_limit()
    pages, broker = plan.endpoint.metrics, plan.endpoint.broker
    before = await scrape(pages) if pages else None
    begun = await mark(broker) if broker else None
    stack, problems, spans = dict[str, Any](), list[str](), list[Span]()
    with gc_paused():
        problems += await _driven(plan, client, state)
    ended = client.now()
    try:
        if before is not None:
            delta = Delta(before, await scrape(pages))
            stack = stack_metrics(delta, ended - state.started)
            problems += mismatches(delta, _client_counts(state)) if not state.stop.is_set() else []
        if begun is not None:
            spans = await spans_since(broker, begun)
    except (ScrapeError, TimelineError) as error:
        problems.append(str(error))
    except Exception as error:  # the requests are kept
        problems.append(f"the services' metrics cannot be read: {type(error).__name__}: {error}")
    outcome = outcome_of(plan.criteria, state, stack, problems)
    if begun is None or not spans:
        return outcome
    body = {**outcome.body, "trace_start_us": begun.on_broker_us(state.started)}
    return replace(outcome, body=body, spans=spans)


async def _driven(plan: RunPlan, client: ChatClient, state: RunState) -> list[str]:
    """Generate the load. Returns why it ended early, if it did: what was measured by then is kept."""
    try:
        await drive(plan, client, state)
    except Exception as error:
        with suppress(OSError, ValueError):
            traceback.print_exc()
        state.stop.set()
        return [f"the run ended early: {type(error).__name__}: {error}"]
    return []


async def drive(plan: RunPlan, client: ChatClient, state: RunState) -> None:
    """Generate the plan's load: send its requests and wait for their answers."""
    load = plan.load
    if not isinstance(load, ClosedLoop):
        await open_loop(client, load, state, plan.drain_s)
        return
    requests = generate_requests(plan.workload, plan.seed)
    limits = (load.concurrency, load.think_s, load.requests, load.seconds)
    await closed_loop(client, requests, state, *limits, plan.drain_s)


def write(outcome: RunOutcome, config: Mapping[str, Any], state: RunState, out: Path) -> None:
    """Write the result file, and requests and spans beside it. Raises OSError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if outcome.spans:
        write_spans(out.with_suffix(".spans.jsonl"), outcome.spans)
    rows = out.with_suffix(".requests.jsonl")
    write_rows(rows, state.records, state.started)
    body = {"started": clock_time(state.started), **outcome.body, "requests_file": rows.name}
    write_result(out, "load", config, body)


def _client_counts(state: RunState) -> dict[str, int]:
    """Tokens of all requests, as the endpoint reported them to the client."""
    return {
        "completion": sum(record.completion_tokens for record in state.records),
        "drafted": sum(record.drafted_tokens for record in state.records),
        "accepted": sum(record.accepted_tokens for record in state.records),
    }


def raise_file_limit() -> None:
    """Raise the limit on open files as far as the system allows: an open loop does not wait for sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(SOCKETS, hard), hard))


class Observer(Protocol):
    """Is called with a run's state every every_s seconds."""

    every_s: float

    def __call__(self, state: RunState, client: ChatClient) -> None: ...


async def run_observed(plan: RunPlan, state: RunState, client: ChatClient, observer: Observer) -> RunOutcome:
    """run(), with an observer."""
    running = asyncio.create_task(run(plan, client, state))
    while not running.done():
        await asyncio.wait({running}, timeout=observer.every_s)
        if state.started:
            observer(state, client)
    return running.result()
