"""Sample results with requests and spans, written by the real writers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadgen.metrics.result_metrics import grouped, run_metrics
from loadgen.metrics.summary import Window
from loadgen.request import ChatRequest, Chunk, Record
from loadgen.results.result_file import write_result
from loadgen.results.rows import write_rows

DEVICES = 3
STARTED = 1000.0  # of the client's clock
ZERO_US = 5_000_000_000  # the run's start on the broker's clock
KINDS = ("code", "chat", "maths")
ROUND_S = 0.1


def records(seconds: int = 6, slower: float = 1.0) -> list[Record]:
    """A user per device who sends one request after another; one request fails."""
    found = []
    for user in range(DEVICES):
        at, n = STARTED + 0.02 * user, 0
        while at < STARTED + seconds:
            request = ChatRequest(f"u{user}-{n}", "m", "p", 24, kind=KINDS[n % 3])
            chunks = [
                Chunk(at + slower * (0.12 + 0.01 * (n % 4) + ROUND_S * k), "abc", (1, 2, 3), 2)
                for k in range(8)
            ]
            record = Record(
                request, at, at + 0.001, chunks, chunks[-1].at + 0.002, "length", "", 32, 16 + n % 3, 8
            )
            record.completion_tokens = 24
            if (n, user) == (4, 1):
                record.chunks, record.fault, record.error = [], "http_N", "HTTP 503: try later"
            found.append(record)
            at, n = record.ended + 0.01, n + 1
    return found


def spans(seconds: int = 6) -> Iterator[dict[str, Any]]:
    """Rounds of every device, and a verifier that verifies all of them in each step; its clock is 7 s behind."""
    for step in range(int(seconds / ROUND_S)):
        begun = ZERO_US + round(step * ROUND_S * 1e6)
        for device in range(DEVICES):
            name, session = f"pi-{device}", f"s{device}-{step // 9}"
            times = {"wait": (0, 2), "draft": (2, 25 + 8 * device), "link": (25 + 8 * device, 50)}
            for kind, (start, end) in times.items():
                yield _span("draft_worker", name, session, step, kind, begun, start, end)
            yield _span("scheduler", "sched", session, step, "wait", begun, 50, 55, step)
            yield _span("verifier", "core", session, step, "verify", begun, 55, 92, step, 7_000_000)
        yield _span("verifier", "core", "", 0, "idle", begun, -8, 55, step, 7_000_000)


def _span(
    role: str,
    name: str,
    session: str,
    round_: int,
    kind: str,
    begun: int,
    start_ms: int,
    end_ms: int,
    step: int = 0,
    offset_us: int = 0,
) -> dict[str, Any]:
    own = begun - offset_us
    return {
        "role": role,
        "name": name,
        "session": session,
        "epoch": 1,
        "round": round_,
        "kind": kind,
        "start_us": own + 1000 * start_ms,
        "end_us": own + 1000 * end_ms,
        "step": step,
        "offset_us": offset_us,
    }


def write_run(
    path: Path, with_spans: bool = True, slower: float = 1.0, stack: bool = True, **config: Any
) -> Path:
    """Write a result with its requests, and with spans if with_spans."""
    some = records(slower=slower)
    write_rows(path.with_suffix(".requests.jsonl"), some, STARTED)
    window = Window(STARTED + 1, STARTED + 5)
    body: dict[str, Any] = {
        "partial": False,
        "valid": True,
        "problems": [],
        "failed_assertions": [],
        "window": {"start": 1.0, "end": 5.0},
        "figures": run_metrics(some, window, {"ttft": 500}),
        "by_kind": grouped(some, window, lambda record: record.request.kind),
        "by_group": {},
        "stack": {"alpha": 0.7, "tau": 3.0, "acceptance_by_position": {1: 0.9, 2: 0.7, 3: 0.5, 4: 0.4}}
        if stack
        else {},
        "requests_file": path.with_suffix(".requests.jsonl").name,
    }
    if with_spans:
        body["trace_start_us"] = ZERO_US
        lines = (json.dumps(span) + "\n" for span in spans())
        path.with_suffix(".spans.jsonl").write_text("".join(lines), encoding="utf-8")
    write_result(path, "load", {"model": "m", "url": "http://127.0.0.1:8000", "rate": 3.0, **config}, body)
    return path


def write_sweep(path: Path) -> Path:
    """Two policies at four rates, twice."""
    points = [
        {
            "policy": policy,
            "rate": rate,
            "concurrency": None,
            "repeat": repeat,
            "figures": {
                "output_throughput": min(rate * 24, knee * 24) + repeat,
                "median_ttft_scheduled_ms": 80 + 10 * 2 ** (rate / knee) + repeat,
                "p99_ttft_scheduled_ms": 100 * 2 ** (rate / knee) + repeat,
                "failed": 0,
            },
            "stack": {"verifier_utilisation": min(0.95, rate / knee * 0.9)},
            "file": f"{policy}-{rate:g}-{repeat}.json",
        }
        for policy, knee in (("outrider", 12.0), ("autoregressive", 6.0))
        for rate in (2.0, 4.0, 8.0, 16.0)
        for repeat in range(2)
    ]
    body = {
        "points": points,
        "knees": {"outrider": 12.0, "autoregressive": 6.0},
        "crossovers": [{"between": ["outrider", "autoregressive"], "level": 5.0}],
    }
    write_result(path, "sweep", {"model": "m"}, body)
    return path
