"""Charts of load runs, one function each. They return None if there is nothing to draw."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isnan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadgen.metrics.summary import itl_token_ms, tokens_between, tpot_ms
from loadgen.report.chart import (
    MUTED,
    PALETTE,
    SHADE,
    Chart,
    Trace,
    axis,
    bars,
    faint,
    layout,
    line,
    plain,
    run_colours,
)
from loadgen.request import Record
from loadgen.results.result_reader import LoadedResult, number

Values = NDArray[np.float64]
Quantity = tuple[
    str, str, Callable[[Record], list[float]]
]  # its name, its line's dash, its values of a request

MAX_POINTS: Final = 300  # of a distribution
BINS: Final = 60
STEPS_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0)


def ttft(runs: Sequence[LoadedResult]) -> Chart | None:
    """Distribution of the time to the first token, from the scheduled arrival and from the send."""
    quantities = [("from the scheduled arrival", "solid", _ttft), ("from the send", "dot", _ttft_sent)]
    return _distribution(runs, "ttft", "Time to first token", quantities)


def e2e(runs: Sequence[LoadedResult]) -> Chart | None:
    """Distribution of the time to the last token."""
    return _distribution(
        runs, "e2e", "End to end", [("", "solid", lambda r: [1e3 * (r.ended - r.scheduled)])]
    )


def tpot(runs: Sequence[LoadedResult]) -> Chart | None:
    """Distribution of the time per token after the first."""
    return _distribution(runs, "tpot", "Time per output token", [("", "solid", lambda r: [tpot_ms(r)])])


def itl(runs: Sequence[LoadedResult]) -> Chart | None:
    """Histogram of the gaps between tokens."""
    found = {run.label: _values(run, itl_token_ms) for run in runs}
    found = {label: gaps for label, gaps in found.items() if len(gaps)}
    if not found:
        return None
    colours = run_colours(runs)
    whole = np.concatenate(list(found.values()))
    start, end = _range([whole])
    edges = np.linspace(start, end, BINS + 1)
    traces: list[Trace] = []
    for label, gaps in found.items():
        share = 100 * np.histogram(gaps, edges)[0] / len(gaps)
        traces.append(
            {
                "type": "bar",
                "name": plain(label),
                "x": _floats((edges[:-1] + edges[1:]) / 2),
                "y": _floats(share),
                "marker": {"color": faint(colours[label], 1.0 if len(found) == 1 else 0.55)},
                "hovertemplate": "%{x:.1f} ms: %{y:.2f} %<extra>%{fullData.name}</extra>",
            }
        )
    beyond = 100 * float(np.mean(whole > end))
    return Chart(
        "itl",
        "Inter-token latency",
        f"A piece of m tokens counts as m equal gaps. Beyond the right edge: {beyond:.2f} % of {len(whole):,} gaps.",
        traces,
        layout(
            axis("ms", range=[start, end], nticks=7),
            axis("% of tokens"),
            len(found) > 1,
            barmode="overlay",
            bargap=0.0,
        ),
    )


def throughput(runs: Sequence[LoadedResult]) -> Chart | None:
    """Tokens per second and requests in flight over time; the counted window is shaded if all runs have the same."""
    drawn = [run for run in runs if run.records]
    colours, width = run_colours(runs), 0.0
    traces: list[Trace] = []
    for run in drawn:
        ended = max(r.ended for r in run.records)
        width = next((step for step in STEPS_S if ended / step <= 150), STEPS_S[-1])
        edges = np.arange(0.0, ended + width, width)
        middles = _floats((edges[:-1] + edges[1:]) / 2)
        tokens, flying = tokens_between(run.records, edges) / width, _in_flight(run.records, edges)
        shape = {"shape": "hvh", "hovertemplate": "%{x:.1f} s: %{y:.4~g}<extra>%{fullData.name}</extra>"}
        traces += [
            line(run.label, middles, _floats(tokens), colours[run.label], **shape),
            line(
                run.label, middles, _floats(flying), colours[run.label], yaxis="y2", showlegend=False, **shape
            ),
        ]
    if not traces:
        return None
    windows = {(run.window.start, run.window.end) for run in drawn}
    shaded = [_shaded(*window) for window in windows if len(windows) == 1]
    return Chart(
        "throughput",
        "Output over time",
        f"Means of {width:g} s." + (" Shaded: the counted window." if shaded else ""),
        traces,
        layout(
            axis("s from the run's start", anchor="y2"),
            axis("tokens/s", domain=[0.42, 1.0], rangemode="tozero"),
            len(drawn) > 1,
            yaxis2=axis("in flight", domain=[0.0, 0.28], rangemode="tozero"),
            shapes=shaded,
        ),
        wide=True,
        height=380,
    )


def by_kind(runs: Sequence[LoadedResult]) -> Chart | None:
    """Accepted / drafted by kind of prompt."""
    return _by_kind(
        runs, "draft_efficiency", "Accepted / drafted, by kind of prompt", 100.0, "% of drafted tokens"
    )


def tau_by_kind(runs: Sequence[LoadedResult]) -> Chart | None:
    """τ by kind of prompt."""
    return _by_kind(runs, "tau", "τ, by kind of prompt", 1.0, "tokens per verified draft")


def by_position(runs: Sequence[LoadedResult]) -> Chart | None:
    """Share of accepted tokens by position in the draft, of those that were checked."""
    colours = run_colours(runs)
    traces = []
    for run in runs:
        places = sorted((at, p) for at, p in run.result.stack.acceptance_by_position.items() if _is(p))
        if places:
            x, y = [float(at) for at, _ in places], [100 * p for _, p in places if p is not None]
            traces.append(line(run.label, x, y, colours[run.label], mode="lines+markers"))
    if not traces:
        return None
    return Chart(
        "acceptance-by-position",
        "Acceptance by position in the draft",
        "Of the tokens at this position that the verifier checked, which are those after accepted ones.",
        traces,
        layout(
            axis("position in the draft", dtick=1),
            axis("% accepted", range=[0, 102]),
            len(traces) > 1,
        ),
    )


def _distribution(
    runs: Sequence[LoadedResult], name: str, title: str, quantities: Sequence[Quantity]
) -> Chart | None:
    """Share of requests that took at most x ms: a line per run and quantity."""
    colours = run_colours(runs)
    traces: list[Trace] = []
    drawn: list[Values] = []
    for run in runs:
        for at, (what, dash, of) in enumerate(quantities):
            if len(values := _values(run, of)):
                label = ", ".join(part for part in (run.label if len(runs) > 1 else "", what) if part)
                # With several runs colours stand for runs, with one run for quantities.
                colour = colours[run.label] if len(runs) > 1 else PALETTE[at]
                traces.append(_shares(label or run.label, values, colour, dash))
                drawn.append(values)
    if not traces:
        return None
    slowest = max(float(values.max()) for values in drawn)
    start, end = _range(drawn)
    up_to = "up to " if len(runs) > 1 else ""
    caption = f"Share of {up_to}{max(map(len, drawn)):,} requests that took at most that long."
    caption += f" The slowest took {slowest:,.0f} ms." if slowest > end else ""
    x, y = axis("ms", range=[start, end], nticks=7), axis("% of requests", range=[0, 101], nticks=6)
    return Chart(name, title, caption, traces, layout(x, y, len(traces) > 1))


def _shares(label: str, values: Values, colour: str, dash: str) -> Trace:
    """A cumulative distribution as a step line of at most MAX_POINTS points."""
    shares = np.linspace(0, 100, min(len(values), MAX_POINTS) + 1)
    ms = np.percentile(values, shares, method="inverted_cdf")
    hover = "%{y:.1f} % within %{x:.1f} ms<extra>%{fullData.name}</extra>"
    return line(label, _floats(ms), _floats(shares), colour, dash=dash, shape="hv", hovertemplate=hover)


def _range(found: Sequence[Values]) -> tuple[float, float]:
    """The range of an axis: without a long tail, and from 0 unless half of the chart would be empty."""
    maximum = max(float(values.max()) for values in found)
    end = 1.03 * min(2.5 * max(float(np.percentile(values, 99)) for values in found), maximum) or 1.0
    minimum = min(float(values.min()) for values in found)
    return (max(0.0, minimum - max(0.1 * (end - minimum), 0.1 * end)) if minimum > end / 2 else 0.0), end


def _by_kind(runs: Sequence[LoadedResult], metric: str, title: str, scale: float, unit: str) -> Chart | None:
    colours = run_colours(runs)
    traces = []
    for run in runs:
        found = {
            kind: v for kind, row in run.result.by_kind.items() if (v := number(row, metric)) is not None
        }
        if found:
            values = [scale * value for value in found.values()]
            traces.append(bars(run.label, list(found), values, colours[run.label]))
    if not traces:
        return None
    return Chart(
        f"{metric.replace('_', '-')}-by-kind",
        title,
        "",
        traces,
        layout(
            axis("", type="category", showgrid=False),
            axis(unit, rangemode="tozero"),
            len(traces) > 1,
            barmode="group",
            bargap=0.35,
        ),
    )


def _ttft(record: Record) -> list[float]:
    return [1e3 * (record.chunks[0].at - record.scheduled)]


def _ttft_sent(record: Record) -> list[float]:
    return [1e3 * (record.chunks[0].at - record.sent)]


def _values(run: LoadedResult, of: Callable[[Record], list[float]]) -> Values:
    found = (value for record in run.counted for value in of(record) if not isnan(value))
    return np.fromiter(found, float)


def _in_flight(records: Sequence[Record], edges: Values) -> Values:
    """Mean number of requests in flight between consecutive edges (seconds). Shape [edges - 1]."""
    sent, ended = (np.array([getattr(r, name) for r in records]) for name in ("sent", "ended"))
    means = [
        float(np.clip(np.minimum(ended, right) - np.maximum(sent, left), 0.0, None).sum()) / (right - left)
        for left, right in pairwise(edges)
    ]
    return np.array(means)


def _shaded(start: float, end: float) -> dict[str, Any]:
    place = {"xref": "x", "yref": "paper", "x0": start, "x1": end, "y0": 0, "y1": 1}
    return {
        "type": "rect",
        "layer": "below",
        "fillcolor": SHADE,
        "line": {"width": 1, "color": faint(MUTED, 0.25)},
        **place,
    }


def _is(value: float | None) -> bool:
    return value is not None and not isnan(value)


def _floats(values: Values) -> list[float]:
    return [round(float(value), 6) for value in values]
