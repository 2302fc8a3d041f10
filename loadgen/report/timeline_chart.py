"""The chart of a timeline: a row per device, scheduler and verifier, or per request in flight."""

from collections import Counter
from dataclasses import replace
from typing import Any, Final

from loadgen.report.chart import SHADE, Chart, Trace, axis, faint, layout, plain
from loadgen.report.timeline import (
    DRAFTING,
    FAILED,
    IDLE,
    LINK,
    QUEUED,
    STREAMING,
    VERIFYING,
    WAITING,
    Bar,
    Timeline,
    is_stage,
    origin_us,
    pipeline,
    slots,
)
from loadgen.results.result_reader import LoadedResult

DEAD: Final = "computed in vain"  # the share of a stage's rows that were dead, drawn as the end of its pass

# By kind of bar: colour, position within the row (0: its middle), height.
BARS: Final = {
    DRAFTING: ("#2463ae", -0.22, 0.36),
    LINK: ("#e0a458", 0.09, 0.22),
    WAITING: ("#9aa7b4", 0.31, 0.18),
    VERIFYING: ("#17907f", 0.0, 0.8),
    DEAD: ("#d9822b", 0.0, 0.8),
    IDLE: ("#f3dcdc", 0.0, 0.8),
    QUEUED: ("#e0a458", 0.0, 0.8),
    STREAMING: ("#2463ae", 0.0, 0.8),
    FAILED: ("#c43d4b", 0.0, 0.8),
}
INITIAL_BARS: Final = 30
OVERLAPPING: Final = (LINK, WAITING)


def timeline_window(run: LoadedResult) -> Timeline:
    """The part of a run that is drawn: around the middle of the counted window."""
    middle = (run.window.start + run.window.end) / 2
    if not run.spans:
        return slots(run.records, middle)
    return pipeline(run.spans, origin_us(run.spans, run.result.trace_start_us), middle)


def timeline(run: LoadedResult, trace_name: str = "") -> Chart | None:
    """Activity of devices and verifiers over time, or requests without spans. trace_name: file with the whole run."""
    seen = timeline_window(run)
    if not seen.bars:
        return None
    since = "the run's start" if run.result.trace_start_us is not None or not run.spans else "the first span"
    devices = {
        session: bar.row
        for bar in seen.bars
        if bar.kind == DRAFTING and bar.row.startswith("device")
        for session, _ in bar.sessions
    }
    seen = replace(seen, bars=tuple(part for bar in seen.bars for part in _parts(bar)))
    traces = [trace for kind in BARS if (trace := _bars(seen, kind, devices))]
    return Chart(
        "pipeline" if run.spans else "requests",
        f"{'Pipeline' if run.spans else 'Requests'}, {run.label}",
        _caption(run, seen, since, trace_name),
        traces,
        _timeline_layout(seen, f"s from {since}"),
        wide=True,
        height=90 + (44 if run.spans else 20) * len(seen.rows),
    )


def _caption(run: LoadedResult, seen: Timeline, since: str, trace_name: str) -> str:
    """Explains the rows, which part of the run is drawn, and where the whole run is."""
    if run.spans:
        rows = (
            "A device's row: drafting at the top, drafts in flight in the middle, waiting verdicts at the bottom. "
            "A verifier's bar is one step, with its number of users. "
        )
        if any(is_stage(row) for row in seen.rows):
            rows += "A stage's bar is one piece, with its rows; its end is the share of rows that were dead already. "
    else:
        rows = "Without recorded spans, a row has one request at a time. "
    first, last = _initial_range(seen)
    closer = last - first < seen.end - seen.start
    parts = (
        f"Drawn: {seen.start:.2f} to {seen.end:.2f} s from {since}, {len(seen.bars):,} bars",
        f"; {seen.left_out} more rows are left out" if seen.left_out else "",
        f"; initially {first:.2f} to {last:.2f} s, a double click shows all" if closer else "",
        ".",
        f" The whole run is in {trace_name}, for ui.perfetto.dev or chrome://tracing." if trace_name else "",
    )
    return rows + "".join(parts)


def _timeline_layout(seen: Timeline, title: str) -> dict[str, Any]:
    rows = len(seen.rows)
    lines = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": at - 0.5,
            "y1": at - 0.5,
            "line": {"color": SHADE},
        }
        for at in range(1, rows)
    ]
    return layout(
        axis(title, range=_initial_range(seen)),
        axis(
            "",
            range=[rows - 0.5, -0.5],
            tickvals=list(range(rows)),
            ticktext=[plain(row) for row in seen.rows],
            showgrid=False,
            fixedrange=True,
        ),
        barmode="overlay",
        shapes=lines,
        uniformtext={"minsize": 9, "mode": "hide"},
        dragmode="zoom",
    )


def _initial_range(seen: Timeline) -> tuple[float, float]:
    """The readable part in the middle: about INITIAL_BARS bars of one kind in the busiest row."""
    max_bars = max(Counter((bar.row, bar.kind) for bar in seen.bars).values())
    width = (seen.end - seen.start) * min(1.0, INITIAL_BARS / max_bars)
    middle = (seen.start + seen.end) / 2
    return middle - width / 2, middle + width / 2


def _parts(bar: Bar) -> tuple[Bar, ...]:
    """A stage's pass as the share of its rows that lived when it began, and that of the dead ones."""
    if not bar.dead:
        return (bar,)
    cut = bar.end - (bar.end - bar.start) * bar.dead / bar.rows
    return replace(bar, end=cut), replace(bar, kind=DEAD, start=cut)


def _bars(seen: Timeline, kind: str, devices: dict[str, str]) -> Trace | None:
    """All bars of a kind. devices: device by session, as far as known."""
    found = [bar for bar in seen.bars if bar.kind == kind]
    if not found:
        return None
    colour, place, height = BARS[kind]
    at = {row: place + index for index, row in enumerate(seen.rows)}
    middle = {row: float(index) for index, row in enumerate(seen.rows)}
    return {
        "type": "bar",
        "orientation": "h",
        "name": kind,
        "base": [round(bar.start, 6) for bar in found],
        "x": [round(bar.end - bar.start, 6) for bar in found],
        "y": [(at if bar.row.startswith(("device", "slot")) else middle)[bar.row] for bar in found],
        "width": height,
        "marker": {
            "color": faint(colour, 0.6 if kind in OVERLAPPING else 1.0),
            "line": {"color": "#fff", "width": 0.5},
        },
        "text": [str(bar.rows or len(bar.sessions)) if kind == VERIFYING else "" for bar in found],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "hovertext": [_hover(bar, devices) for bar in found],
        "hoverinfo": "text",
    }


def _hover(bar: Bar, devices: dict[str, str]) -> str:
    """Hover text: every session with its round, and for a verifier its device."""
    lines = [f"<b>{bar.kind}</b> {1e3 * (bar.end - bar.start):.2f} ms, from {bar.start:.4f} s"]
    if bar.rows:
        lines.append(f"piece {bar.step}, {bar.rows} rows, {bar.dead} of them dead")
    elif bar.kind == VERIFYING:
        lines.append(f"step {bar.step}, {len(bar.sessions)} users")
    for session, n in bar.sessions[:24]:
        device = f", {plain(devices[session])}" if session in devices and bar.kind == VERIFYING else ""
        number = f", {n} rows" if bar.rows else f", round {n}" if n else ""
        lines.append(plain(session) + number + device)
    return "<br>".join(lines + (["…"] if len(bar.sessions) > 24 else []))
