"""Spans and requests as bars of a timeline, and spans as Chrome's trace events. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loadgen.request import Record
from loadgen.results.spans import Span

MAX_S: Final = 10.0  # of a run in a chart
MAX_BARS: Final = 4000
MAX_ROWS: Final = 40

DRAFTING, LINK, WAITING, VERIFYING, IDLE, QUEUED, STREAMING, FAILED = (
    "drafting",
    "in flight",
    "waiting",
    "verifying",
    "idle",
    "before the first token",
    "streaming",
    "failed",
)
NAMES: Final[Mapping[str, str]] = {
    "draft": DRAFTING,
    "link": LINK,
    "wait": WAITING,
    "verify": VERIFYING,
    "idle": IDLE,
}
ROLES: Final[Mapping[str, str]] = {
    "draft_worker": "device",
    "scheduler": "scheduler",
    "verifier": "verifier",
    "gateway": "gateway",
}


_STAGE: Final = re.compile(r"verifier .*-stage-\d+")
_RANK_0: Final = re.compile(r"verifier .*-rank-0")
_NUMBER: Final = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. start, end: seconds; sessions: of the work, each with its round, or its rows in a stage's piece.

    rows: of a stage's piece; dead: of them, those that were decided otherwise before the pass began.
    """

    row: str
    kind: str
    start: float
    end: float
    sessions: tuple[tuple[str, int], ...] = ()
    step: int = 0
    rows: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bars between two times (seconds); rows in the order they are drawn. left_out: rows beyond MAX_ROWS."""

    rows: tuple[str, ...]
    bars: tuple[Bar, ...]
    start: float
    end: float
    left_out: int = 0


def origin_us(spans: Iterable[Span], recorded_us: float | None) -> float:
    """The run's start on the spans' clock: as recorded, or the first span's start."""
    return (
        recorded_us if recorded_us is not None else min((s.start_us + s.offset_us for s in spans), default=0)
    )


def pipeline(spans: Sequence[Span], zero_us: float, around: float) -> Timeline:
    """Devices, schedulers, then verifiers, each before its stages, for up to MAX_S seconds around a time."""
    order = ("draft_worker", "scheduler", "verifier")
    rows = sorted(
        {(order.index(s.role), s.name) for s in spans if s.role in order},
        key=lambda row: (row[0], _NUMBER.sub(lambda found: found[0].zfill(6), row[1])),
    )
    names = [f"{ROLES[order[at]]} {name}".strip() for at, name in rows]
    return _clip(names, span_bars([s for s in spans if s.role in order], zero_us), around)


def is_stage(row: str) -> bool:
    """Whether a row is that of a stage of a pipeline."""
    return _STAGE.fullmatch(row) is not None


def span_bars(spans: Sequence[Span], zero_us: float) -> list[Bar]:
    """One bar per span, but only one for all spans of a verifier's step."""
    members: dict[tuple[str, str, int, float, float], list[Span]] = defaultdict(list)
    for at, span in enumerate(spans):
        # A verifier writes a span per row of a step, with equal times. Other spans stay separate.
        group_of = span.step if span.role == "verifier" else -1 - at
        row = f"{ROLES[span.role]} {span.name}".strip()
        start, end = (span.offset_us + t for t in (span.start_us, span.end_us))
        members[row, NAMES[span.kind], group_of, start, end].append(span)
    return [
        Bar(
            row,
            kind,
            (start - zero_us) / 1e6,
            (end - zero_us) / 1e6,
            tuple((span.session, span.round) for span in group if span.session),
            group[0].step,
            # Of a stage's pass spans tell the rows of a session, and how many of them were dead.
            rows=sum(span.round for span in group) if is_stage(row) else 0,
            dead=sum(span.epoch for span in group) if is_stage(row) else 0,
        )
        for (row, kind, _, start, end), group in members.items()
    ]


def slots(records: Sequence[Record], around: float) -> Timeline:
    """Requests of a stack without spans: before the first token, then streaming. A row has one request at a time."""
    bars = []
    free: list[float] = []  # by slot: when its last request ends
    for record in sorted(records, key=lambda r: r.scheduled):
        at = next((at for at, end in enumerate(free) if end <= record.scheduled), len(free))
        free[at : at + 1] = [max(record.ended, record.scheduled)]
        row, session = f"slot {at + 1}", ((record.request.id, 0),)
        if record.error or not record.chunks:
            bars.append(Bar(row, FAILED, record.scheduled, record.ended, session))
            continue
        first = record.chunks[0].at
        bars.append(Bar(row, QUEUED, record.scheduled, first, session))
        bars.append(Bar(row, STREAMING, first, record.ended, session))
    return _clip([f"slot {at + 1}" for at in range(len(free))], bars, around)


def _clip(rows: Sequence[str], bars: Sequence[Bar], around: float) -> Timeline:
    """At most MAX_S seconds around a time, MAX_BARS bars and MAX_ROWS rows."""
    first, last = min((b.start for b in bars), default=0.0), max((b.end for b in bars), default=0.0)
    if not first <= around <= last:
        around = (first + last) / 2
    width = min(MAX_S, last - first)
    while True:
        start = min(max(first, around - width / 2), last - width)
        end = start + width
        within = [bar for bar in bars if bar.end > start and bar.start < end]
        if len(within) <= MAX_BARS or width < 0.01:
            break
        width /= 2
    busy = {bar.row for bar in within}
    seen = [row for row in rows if row in busy]
    kept = _first_rows(seen)
    return Timeline(
        tuple(kept), tuple(bar for bar in within if bar.row in kept), start, end, len(seen) - len(kept)
    )


def _first_rows(rows: Sequence[str]) -> list[str]:
    """Keep at most MAX_ROWS devices or slots, and all verifiers and schedulers."""
    many = [row for row in rows if row.startswith(("device", "slot"))][:MAX_ROWS]
    return [row for row in rows if row in many or not row.startswith(("device", "slot"))]


def trace_events(spans: Sequence[Span], zero_us: float) -> dict[str, Any]:
    """Chrome's trace format, for Perfetto: a process per service, a thread per kind of work, arrows from drafts."""
    events: list[dict[str, Any]] = []
    processes: dict[str, int] = {}
    threads: dict[tuple[int, str], int] = {}
    lane_ends: dict[tuple[int, str], list[float]] = defaultdict(list)
    drafts: dict[tuple[str, int], dict[str, Any]] = {}
    for bar in sorted(span_bars(spans, zero_us), key=lambda bar: (bar.start, -bar.end)):
        pid = processes.setdefault(bar.row, len(processes) + 1)
        work = "steps" if bar.kind in (VERIFYING, IDLE) else bar.kind
        free = lane_ends[pid, work]  # overlapping work goes to parallel threads
        lane = next((at for at, end in enumerate(free) if end <= bar.start), len(free))
        free[lane : lane + 1] = [bar.end]
        thread = work if lane == 0 else f"{work} {lane + 1}"
        tid = threads.setdefault((pid, thread), len(threads) + 1)
        event = _event(bar, pid, tid)
        events.append(event)
        if bar.rows:
            events.append(_rows(bar, pid))
        if bar.kind == DRAFTING and not _RANK_0.fullmatch(bar.row):
            drafts.update(dict.fromkeys(bar.sessions, event))
        elif bar.kind == VERIFYING and not bar.rows:
            events += [
                arrow for key in bar.sessions if key in drafts for arrow in _arrow(drafts.pop(key), event)
            ]
    named = [_named("process_name", pid, 0, name) for name, pid in processes.items()]
    named += [_named("thread_name", pid, tid, name) for (pid, name), tid in threads.items()]
    return {"traceEvents": [*named, *events], "displayTimeUnit": "ms"}


def _event(bar: Bar, pid: int, tid: int) -> dict[str, Any]:
    many = len(bar.sessions)
    name = f"{bar.kind} {many}" if bar.kind == VERIFYING else bar.kind
    if bar.rows:
        name = f"{bar.rows} rows" + (f", {bar.dead} dead" if bar.dead else "")
    return {
        "name": name,
        "cat": bar.kind,
        "ph": "X",
        "ts": round(bar.start * 1e6),
        "dur": round(bar.end * 1e6) - round(bar.start * 1e6),
        "pid": pid,
        "tid": tid,
        "args": {
            "step": bar.step,
            "sessions": [f"{session} {'rows' if bar.rows else 'round'} {n}" for session, n in bar.sessions],
        },
    }


def _rows(bar: Bar, pid: int) -> dict[str, Any]:
    """The rows of a stage's pass as a counter, drawn below its passes."""
    counts = {"alive": bar.rows - bar.dead, "dead": bar.dead}
    return {"name": "rows", "ph": "C", "ts": round(bar.start * 1e6), "pid": pid, "tid": 0, "args": counts}


def _arrow(draft: Mapping[str, Any], verify: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An arrow from drafting to verifying, from start to start: an arrow binds to the slice that its time lies in."""
    ident = f"{draft['tid']}-{draft['ts']}"
    common = {"name": "draft", "cat": "draft", "id": ident}
    return [
        {**common, "ph": "s", **{key: draft[key] for key in ("pid", "tid", "ts")}},
        {**common, "ph": "f", "bp": "e", **{key: verify[key] for key in ("pid", "tid", "ts")}},
    ]


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def time_by_kind(timeline: Timeline) -> Mapping[tuple[str, str], float]:
    """Seconds by row and kind within the window. Overlapping bars count once: a device drafts for several sessions."""
    spent: dict[tuple[str, str], float] = defaultdict(float)
    covered: dict[tuple[str, str], float] = {}  # until when
    for bar in sorted(timeline.bars, key=lambda bar: bar.start):
        key = bar.row, bar.kind
        end = min(bar.end, timeline.end)
        spent[key] += max(0.0, end - max(bar.start, covered.get(key, timeline.start)))
        covered[key] = max(end, covered.get(key, end))
    return spent
