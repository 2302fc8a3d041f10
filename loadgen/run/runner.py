"""One run from a settled plan to its result file."""

import asyncio
import resource
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from loadgen.client.streaming import Client
from loadgen.metrics.result_metrics import figures, grouped
from loadgen.metrics.slo import Assertion
from loadgen.metrics.stack_metrics import Delta, ScrapeError, mismatches, scrape, stack_figures
from loadgen.metrics.summary import Window, dispatch_ms, spread
from loadgen.results.result_file import write_result
from loadgen.results.rows import write_rows
from loadgen.results.stack_timeline import TimelineError, mark, spans_since, write_spans
from loadgen.run.drive import RunState, closed_loop, gc_paused, open_loop
from loadgen.workload.schedule import Planned, Workload, asked
from shared.protocol.messages import Span


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. metrics: Prometheus pages of its services, broker: for their timeline; what only they know."""

    url: str
    api_key: str = ""
    plain: bool = False
    timeout_s: float = 600.0
    stall_s: float = 60.0
    retries: int = 0
    metrics: Sequence[str] = ()
    broker: str = ""


def client_of(endpoint: Endpoint) -> Client:
    """A client of it."""
    return Client(
        endpoint.url,
        endpoint.api_key,
        endpoint.timeout_s,
        stall_s=endpoint.stall_s,
        retries=endpoint.retries,
        plain=endpoint.plain,
    )


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed loop: users who each ask again think_s after their answer."""

    concurrency: int
    think_s: float = 0.0
    requests: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A run. load: a schedule, or users. warmup_s, cooldown_s: of arrivals, not counted at either end."""

    endpoint: Endpoint
    workload: Workload
    load: Sequence[Planned] | Closed
    seed: int
    warmup_s: float = 0.0
    cooldown_s: float = 0.0
    drain_s: float = 120.0
    max_dispatch_ms: float = 10.0
    goodput: Mapping[str, float] = field(default_factory=dict)
    assertions: Sequence[Assertion] = ()
    config: Mapping[str, Any] = field(default_factory=dict)  # what was asked for, for the result file


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. problems: why it is not valid; failed: assertions that do not hold."""

    figures: Mapping[str, Any]
    problems: Sequence[str]
    failed: Sequence[str]
    body: Mapping[str, Any]
    spans: Sequence[Span] = ()


SOCKETS: Final = 65_536
BESIDE: Final = (".requests.jsonl", ".requests.csv", ".spans.jsonl")  # suffixes of the files of a result


async def run(plan: Plan, client: Client, course: RunState) -> Outcome:
    """Drive it, to its end or until told to end. Raises ScrapeError, TimelineError before the first request only."""
    allow_sockets()
    pages, broker = plan.endpoint.metrics, plan.endpoint.broker
    before = await scrape(pages) if pages else None
    begun = await mark(broker) if broker else None
    stack, problems, spans = dict[str, Any](), list[str](), list[Span]()
    with gc_paused():
        problems += await _driven(plan, client, course)
    ended = time.perf_counter()
    try:
        if before is not None:
            delta = Delta(before, await scrape(pages))
            stack = stack_figures(delta, ended - course.started)
            problems += mismatches(delta, _told(course)) if not course.over.is_set() else []
        if begun is not None:
            spans = await spans_since(broker, begun)
    except (ScrapeError, TimelineError) as error:
        problems.append(str(error))
    except Exception as error:  # what the requests themselves showed is kept
        problems.append(f"what the services counted cannot be read: {type(error).__name__}: {error}")
    outcome = _outcome(plan, course, stack, problems)
    if begun is None or not spans:
        return outcome
    body = {**outcome.body, "trace_start_us": begun.on_broker_us(course.started)}
    return replace(outcome, body=body, spans=spans)


async def _driven(plan: Plan, client: Client, course: RunState) -> list[str]:
    """Drive it. Returns why it ended before its time; whatever that was, what was measured by then is kept."""
    try:
        await _drive(plan, client, course)
    except Exception as error:
        with suppress(OSError, ValueError):
            traceback.print_exc()
        course.over.set()
        return [f"the run ended before its time: {type(error).__name__}: {error}"]
    return []


async def _drive(plan: Plan, client: Client, course: RunState) -> None:
    many = plan.load
    if not isinstance(many, Closed):
        await open_loop(client, many, course, plan.drain_s)
        return
    requests = asked(plan.workload, plan.seed)
    limits = (many.concurrency, many.think_s, many.requests, many.seconds)
    await closed_loop(client, requests, course, *limits, plan.drain_s)


def write(outcome: Outcome, plan: Plan, course: RunState, out: Path) -> None:
    """The result file; rows, table and timeline beside it. Raises OSError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if outcome.spans:
        write_spans(out.with_suffix(".spans.jsonl"), outcome.spans)
    rows = out.with_suffix(".requests.jsonl")
    write_rows(rows, course.records, course.started)
    began = {"started": _clock_time(course.started), "requests_file": rows.name}
    write_result(out, "load", plan.config, {**outcome.body, **began})


def _outcome(plan: Plan, course: RunState, stack: Mapping[str, Any], problems: list[str]) -> Outcome:
    window = _window(plan, course)
    seen = figures(course.records, window, plan.goodput)
    if window.end <= window.start:
        problems.append("nothing is left between warm-up and cool-down")
    if not seen["completed"]:
        problems.append("no request was completed")
    late = spread(map(dispatch_ms, course.records)).p99
    if late > plan.max_dispatch_ms:
        problems.append(
            f"the load generator itself was late: dispatch delay p99 {late:.1f} ms, over {plan.max_dispatch_ms:g}"
        )
    failed = [why for assertion in plan.assertions if (why := assertion.fails({**seen, **stack}))]
    body = {
        "partial": course.over.is_set(),
        "valid": not problems,
        "problems": problems,
        "failed_assertions": failed,
        "window": {"start": window.start - course.started, "end": window.end - course.started},
        "figures": seen,
        "by_kind": grouped(course.records, window, lambda record: record.request.kind),
        "by_group": grouped(course.records, window, lambda record: record.request.group),
        "stack": stack,
    }
    return Outcome(seen, problems, failed, body)


def _clock_time(at: float) -> str:
    """A time of perf_counter, as logs have it."""
    ago_s = time.perf_counter() - at
    return datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="milliseconds")


def _window(plan: Plan, course: RunState) -> Window:
    """From warm-up to cool-down; without them from the first arrival to the last end."""
    start = course.started + plan.warmup_s
    if plan.cooldown_s or plan.warmup_s:
        return Window(start, max(start, course.last_due - plan.cooldown_s))
    return Window(start, max((record.ended for record in course.records), default=start))


def _told(course: RunState) -> dict[str, int]:
    """Tokens of all requests as the clients were told."""
    return {
        "completion": sum(record.completion_tokens for record in course.records),
        "drafted": sum(record.drafted_tokens for record in course.records),
        "accepted": sum(record.accepted_tokens for record in course.records),
    }


def allow_sockets() -> None:
    """As many open files as the system lets us have: an open loop does not wait for sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(SOCKETS, most), most))


class Observer(Protocol):
    """Is shown how a run goes, every so often."""

    every_s: float

    def __call__(self, course: RunState, client: Client) -> None: ...


async def watched(plan: Plan, course: RunState, client: Client, live: Observer) -> Outcome:
    """The same with somebody who looks on."""
    running = asyncio.create_task(run(plan, client, course))
    while not running.done():
        await asyncio.wait({running}, timeout=live.every_s)
        if course.started:
            live(course, client)
    return running.result()
