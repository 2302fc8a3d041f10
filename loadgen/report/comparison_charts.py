"""Charts that compare runs, or the points of a sweep."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import ceil, floor, log10
from statistics import fmean
from typing import Any, Final

from loadgen.report.chart import (
    MUTED,
    Chart,
    Trace,
    axis,
    bars,
    faint,
    layout,
    line,
    plain,
    policy_colours,
    run_colours,
)
from loadgen.report.formatting import format_number, percent
from loadgen.results.result_reader import Crossover, LoadedResult, Result, SweepPoint, number

Repeats = Mapping[str, Mapping[float, Sequence[float]]]  # by policy, by rate, users or level

# Title, unit, and the metrics that are its bars with their names.
COMPARED: Final = (
    ("Output throughput", "tokens/s", {"output_throughput": ""}),
    ("Time to first token", "ms", {"median_ttft_scheduled_ms": "p50", "p99_ttft_scheduled_ms": "p99"}),
    ("Time per output token", "ms", {"median_tpot_ms": "p50", "p99_tpot_ms": "p99"}),
    ("Goodput", "requests/s", {"request_goodput": ""}),
)
MAX_LINEAR_RATIO: Final = 5.0  # largest ratio of latencies on a linear axis
SWEPT: Final = (
    ("output_throughput", "Output throughput", "tokens/s"),
    ("median_ttft_scheduled_ms", "TTFT, median", "ms"),
    ("p99_ttft_scheduled_ms", "TTFT, p99", "ms"),
)


def comparison(runs: Sequence[LoadedResult]) -> list[Chart]:
    """A chart per metric with a bar per run; none for fewer than two runs."""
    if len(runs) < 2:
        return []
    charts = (_compared(runs, title, unit, names) for title, unit, names in COMPARED)
    return [chart for chart in charts if chart]


def _compared(runs: Sequence[LoadedResult], title: str, unit: str, names: Mapping[str, str]) -> Chart | None:
    """Bars of one or two metrics; the second is paler."""
    colours = run_colours(runs)
    traces: list[Trace] = []
    for at, (key, name) in enumerate(names.items()):
        values = [number(run.result.metrics, key) for run in runs]
        if any(value is not None for value in values):
            drawn = [faint(colours[run.label], 0.5 if at else 1.0) for run in runs]
            traces.append(bars(name or title, [run.label for run in runs], values, drawn))
    if not traces:
        return None
    name = "compared-" + title.lower().replace(" ", "-")
    caption = "Solid: p50. Pale: p99." if len(names) > 1 else ""
    x = axis("", type="category", showgrid=False)
    return Chart(
        name,
        title,
        caption,
        traces,
        layout(x, axis(unit, rangemode="tozero"), False, barmode="group", bargap=0.5),
    )


def sweep(loaded: LoadedResult) -> list[Chart]:
    """Metrics over the rate, the users or another field that was swept, with a line per policy."""
    result = loaded.result
    of: list[tuple[str, str, str, Callable[[SweepPoint], float | None]]] = [
        (name, title, unit, partial(_metric_of, name)) for name, title, unit in SWEPT
    ]
    of.append(
        (
            "verifier_utilisation",
            "Verifiers busy",
            "%",
            lambda point: percent(point.stack.verifier_utilisation),
        )
    )
    charts = (_against(result, name, title, unit, value) for name, title, unit, value in of)
    return [chart for chart in charts if chart]


def _against(
    result: Result, name: str, title: str, unit: str, value: Callable[[SweepPoint], float | None]
) -> Chart | None:
    found = _by_policy(result.points, value)
    if not found:
        return None
    values = [y for by_x in found.values() for ys in by_x.values() for y in ys]
    logarithmic = unit == "ms" and min(values) > 0 and max(values) > MAX_LINEAR_RATIO * min(values)
    colours = policy_colours([point.policy for point in result.points])
    knees, crossings = result.knees, result.crossovers
    traces: list[Trace] = []
    for policy, by_x in found.items():
        traces += _policy(policy, by_x, colours[policy], knees.get(policy), logarithmic)
    caption = _caption(found, traces, crossings)
    drawn = layout(
        axis(result.axis, rangemode="tozero"),
        _logarithmic(unit, values) if logarithmic else axis(unit, rangemode="tozero"),
        shapes=[_upright(crossing.level) for crossing in crossings],
    )
    return Chart(f"sweep-{name.replace('_', '-')}", title, caption, traces, drawn, height=340)


def _caption(found: Repeats, traces: Sequence[Trace], crossings: Sequence[Crossover]) -> str:
    """Explains those of lines, dots, diamonds and dotted lines that the chart has."""
    several = any(len(ys) > 1 for by_x in found.values() for ys in by_x.values())
    knees = any(trace["name"].endswith("knee") for trace in traces)
    crossovers = ", ".join(f"{' × '.join(c.between)} at {format_number(c.level)}" for c in crossings)
    parts = (
        "Lines: means of the repeats, dots: the repeats." if several else "",
        "Diamond: the knee." if knees else "",
        f"Dotted: crossovers ({crossovers})." if crossings else "",
    )
    return " ".join(filter(None, parts))


def _by_policy(points: Sequence[SweepPoint], value: Callable[[SweepPoint], float | None]) -> Repeats:
    """Measured values by policy and by rate, users or level."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        x, y = point.x, value(point)
        if x is not None and y is not None:
            found[point.policy][x].append(y)
    return found


def _logarithmic(unit: str, values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis labelled 1, 2, 5, 10 …, because plotly's own labels leave the powers out."""
    low, high = log10(min(values)), log10(max(values))
    ticks = [m * 10.0**n for n in range(floor(low) - 1, ceil(high) + 1) for m in (1, 2, 5)]
    edges = [low - 0.1 * (high - low) - 0.05, high + 0.1 * (high - low) + 0.05]
    texts = [f"{tick:,g}" for tick in ticks]
    return axis(unit, type="log", tickvals=ticks, ticktext=texts, range=edges, minor={"showgrid": False})


def _policy(
    policy: str, by_x: Mapping[float, Sequence[float]], colour: str, knee: float | None, logarithmic: bool
) -> list[Trace]:
    """A policy's line through the means, its repeats as dots, and its knee as a diamond on the line."""
    means = [(x, fmean(ys)) for x, ys in sorted(by_x.items())]
    hover = {"hovertemplate": "%{x:.4~g}: %{y:.4~g}<extra>%{fullData.name}</extra>"}
    name, xs, ys = policy or "–", [x for x, _ in means], [y for _, y in means]
    traces = [line(name, xs, ys, colour, mode="lines+markers", legendgroup=plain(name), **hover)]
    if any(len(repeats) > 1 for repeats in by_x.values()):
        dots = [(x, y) for x, repeats in sorted(by_x.items()) for y in repeats]
        marker = {"color": faint(colour, 0.4), "size": 5}
        traces.append(_marks(f"{name}, repeats", dots, marker, name, hover))
    on_line = None if knee is None else _between(means, knee, logarithmic)
    if knee is not None and on_line is not None:
        marker = {"color": "#fff", "size": 12, "symbol": "diamond", "line": {"color": colour, "width": 2.5}}
        traces.append(_marks(f"{name}, knee", [(knee, on_line)], marker, name, hover))
    return traces


def _marks(
    name: str,
    at: Sequence[tuple[float, float]],
    marker: Mapping[str, Any],
    group: str,
    hover: Mapping[str, Any],
) -> Trace:
    marks = line(
        name, [x for x, _ in at], [y for _, y in at], "", mode="markers", marker=dict(marker), **hover
    )
    del marks["line"]
    return {**marks, "legendgroup": plain(group), "showlegend": False}


def _between(means: Sequence[tuple[float, float]], x: float, logarithmic: bool) -> float | None:
    """The height of the drawn line at x, None outside of it."""
    for (left, low), (right, high) in pairwise(means):
        if left <= x <= right and right > left:
            part = (x - left) / (right - left)
            return low * (high / low) ** part if logarithmic else low + (high - low) * part
    return next((y for at, y in means if at == x), None)


def _upright(x: float) -> dict[str, Any]:
    place = {"xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
    return {"type": "line", **place, "line": {"color": MUTED, "width": 1.5, "dash": "dot"}}


def _metric_of(name: str, point: SweepPoint) -> float | None:
    return number(point.metrics, name)
