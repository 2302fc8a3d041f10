"""The report: one HTML file that holds all it needs, and a trace for Perfetto where spans were recorded."""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from loadgen.report import charts, compared, sections
from loadgen.report.frame import Chart
from loadgen.report.markup import Html, joined, tag
from loadgen.report.style import STYLE
from loadgen.report.timeline import origin_us, trace_events
from loadgen.report.timeline_chart import shown, timeline
from loadgen.results.output import replacing
from loadgen.results.result_reader import LoadedResult, ReportError, read_all

DRAW: Final = """
for (const [id, chart] of Object.entries(JSON.parse(document.getElementById("charts").textContent)))
  Plotly.newPlot(id, chart.data, chart.layout, {
    responsive: true, displayModeBar: false,
  });
"""


def build(results: Sequence[Path], out: Path) -> None:
    """The page at `out`, traces beside it. Raises ReportError with one line that names the file."""
    found = read_all(results)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        traces = _write_traces(found, out)
        _write(out, page(found, _script(), traces))
    except OSError as error:
        raise ReportError(f"{error.filename or out}: {error.strerror or error}") from None


def page(found: Sequence[LoadedResult], script: str, traces: Sequence[str] = ()) -> str:
    """The whole document. script: plotly.js. traces: by result the name of its trace file, "" without."""
    drawn: list[Chart] = []
    body = _body(found, [*traces, *[""] * len(found)], drawn)
    figures = {f"chart-{at}": {"data": one.traces, "layout": one.layout} for at, one in enumerate(drawn)}
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script, DRAW)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{_title(found)}: load report"),
        tag("style", Html(STYLE)),
        tag("script", Html(script)),
    )
    told = tag("script", _json(figures), type="application/json", id="charts")
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", body, told, tag("script", Html(DRAW)))}</html>\n'


def _body(found: Sequence[LoadedResult], traces: Sequence[str], drawn: list[Chart]) -> Html:
    """Everything a person sees; its charts are added to `drawn`."""
    runs = [one for one in found if one.result.kind == "load"]
    hint = "Drag over a chart to look closer; a double click goes back, another shows all."
    return tag(
        "main",
        tag("h1", _title(found)),
        _under(found),
        sections.banners(found),
        *_outcomes(found, runs, drawn),
        *_behaviour(runs, drawn),
        *_timelines(found, traces, drawn),
        _section(drawn, "Failures", [], sections.failures(runs)),
        _section(drawn, "What is counted", [], sections.counted()),
        _section(drawn, "Settings", [], sections.settings(found)),
        tag("p", hint, class_="under"),
    )


def _outcomes(
    found: Sequence[LoadedResult], runs: Sequence[LoadedResult], drawn: list[Chart]
) -> Iterator[Html]:
    """What the runs and sweeps came to."""
    if len(runs) == 1:
        yield sections.cards(runs[0])
    elif runs:
        yield _section(drawn, "Comparison", compared.comparison(runs), sections.compared(runs))
    for one in found:
        if one.result.kind == "sweep":
            yield _section(drawn, f"Sweep, {one.label}", compared.sweep(one), sections.points(one))


def _behaviour(runs: Sequence[LoadedResult], drawn: list[Chart]) -> Iterator[Html]:
    """Latencies, rates and speculation of the runs."""
    tables = [sections.latencies(runs[0])] if len(runs) == 1 else []
    latency = [draw(runs) for draw in (charts.ttft, charts.e2e, charts.tpot, charts.itl)]
    yield _section(drawn, "Latency", latency, *tables)
    yield _section(drawn, "Over time", [charts.throughput(runs)])
    accepted = [draw(runs) for draw in (charts.tau_by_kind, charts.by_kind, charts.by_position)]
    yield _section(drawn, "Speculation", accepted, sections.speculation(runs))


def _timelines(found: Sequence[LoadedResult], traces: Sequence[str], drawn: list[Chart]) -> Iterator[Html]:
    """Who did what when, of every run."""
    for run, trace in zip(found, traces, strict=False):
        shares = sections.shares(shown(run)) if run.spans else Html()
        yield _section(drawn, f"Timeline, {run.label}", [timeline(run, trace)], shares)


def _section(drawn: list[Chart], title: str, some: Sequence[Chart | None], *more: Html) -> Html:
    """Charts and what follows them under a heading; nothing where there are none. Charts are added to `drawn`."""
    grid = _grid([chart for chart in some if chart], drawn)
    inside = joined((grid, *more))
    return tag("section", tag("h2", title), inside) if inside else Html()


def _title(found: Sequence[LoadedResult]) -> str:
    return found[0].label if len(found) == 1 else f"{len(found)} results"


def _under(found: Sequence[LoadedResult]) -> Html:
    """Where the figures come from, in a line a result."""
    lines = []
    for one in found:
        result = one.result
        parts = [one.label if len(found) > 1 else "", str(result.config.get("model") or ""), one.policy]
        parts += [
            str(result.config.get("url") or ""),
            result.date,
            f"commit {result.git}" if result.git else "",
        ]
        lines.append(tag("p", " · ".join(part for part in parts if part), class_="under"))
    return joined(lines)


def _grid(some: Sequence[Chart], drawn: list[Chart]) -> Html:
    """Charts side by side; an odd last one goes over the whole width."""
    boxes = []
    narrow = [chart for chart in some if not chart.wide]
    alone = narrow[-1] if len(narrow) % 2 else None
    for chart in some:
        plot = tag("div", id=f"chart-{len(drawn)}", data_chart=chart.name, style=f"height: {chart.height}px")
        kind = "chart wide" if chart.wide or chart is alone else "chart"
        boxes.append(
            tag("div", tag("h3", chart.title), tag("p", chart.caption, class_="caption"), plot, class_=kind)
        )
        drawn.append(chart)
    return tag("div", *boxes, class_="charts") if boxes else Html()


def _policy(*scripts: str) -> str:
    """Nothing may be fetched, and no script runs but these."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _json(value: Any) -> Html:
    """JSON that cannot end its script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c"))


def _script() -> str:
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415  # only for reports
    except ImportError:
        raise ReportError("plotly is missing, which draws reports: pip install 'outrider[loadgen]'") from None
    return str(get_plotlyjs())


def _write_traces(found: Sequence[LoadedResult], out: Path) -> list[str]:
    """By result the name of the trace that was written, "" without spans."""
    names: list[str] = []
    for one in found:
        before = sum(bool(name) for name in names)
        name = f"{out.stem}.{before + 1}.trace.json" if before else f"{out.stem}.trace.json"
        names.append(name if one.spans else "")
        if one.spans:
            events = trace_events(one.spans, origin_us(one.spans, one.result.trace_start_us))
            _write(out.with_name(name), json.dumps(events, separators=(",", ":")))
    return names


def _write(path: Path, text: str) -> None:
    """Atomically: a reader sees the old file or the new one."""
    with replacing(path) as file:
        file.write(text)
