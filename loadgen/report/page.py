"""The report: one self-contained HTML file, and a trace for Perfetto where spans were recorded."""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loadgen.report import cells, charts, comparison_charts, sections
from loadgen.report.blocks import Plot, Section, Table
from loadgen.report.chart import FONT, GRID, INK, MUTED, SHADE, Chart
from loadgen.report.stage_table import stages
from loadgen.report.timeline import origin_us, trace_events
from loadgen.report.timeline_chart import timeline, timeline_window
from loadgen.results.output import replacing
from loadgen.results.result_reader import LoadedResult, ReportError, read_all

if TYPE_CHECKING:
    from jinja2 import Environment

COLOURS: Final = {"ink": INK, "muted": MUTED, "grid": GRID, "shade": SHADE}


def build(results: Sequence[Path], out: Path) -> None:
    """Write the page to `out` and traces beside it. Raises ReportError with one line that names the file."""
    loaded = read_all(results)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        traces = _write_traces(loaded, out)
        _write(out, page(loaded, _plotly_script(), traces))
    except OSError as error:
        raise ReportError(f"{error.filename or out}: {error.strerror or error}") from None


def page(results: Sequence[LoadedResult], plotly_script: str, traces: Sequence[str] = ()) -> str:
    """The whole document. plotly_script: plotly.js. traces: the trace file's name by result, "" for none."""
    templates = _templates()
    draw_script = templates.get_template("draw.js").render()
    placed = _placed(list(_sections(results, [*traces, *[""] * len(results)])))
    plots = [plot for _, of_section in placed for plot in of_section]
    runs = _runs(results)
    return templates.get_template("page.html").render(
        title=_title(results),
        policy=_content_policy(plotly_script, draw_script),
        colours=COLOURS,
        font=FONT,
        origins=_origins(results),
        banners=sections.banners(results),
        cards=sections.cards(runs[0]) if len(runs) == 1 else (),
        sections=placed,
        chart_data={plot.id: {"data": plot.chart.traces, "layout": plot.chart.layout} for plot in plots},
        plotly_script=plotly_script,
        draw_script=draw_script,
    )


def _templates() -> "Environment":
    """The templates: all text is escaped, and JSON cannot end its script element. Raises ReportError."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # only for reports
    except ImportError:
        raise ReportError(
            "jinja2 is missing, which renders reports: pip install 'outrider[loadgen]'"
        ) from None
    environment = Environment(
        loader=PackageLoader("loadgen.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment


def _sections(results: Sequence[LoadedResult], traces: Sequence[str]) -> Iterator[Section]:
    """The sections in their order; one without content is left out."""
    runs = _runs(results)
    found = [
        *_outcomes(results, runs),
        *_behaviour(runs),
        *_timelines(results, traces),
        _section("Failures", [], sections.failures(runs)),
        Section("Definitions", definitions=sections.DEFINITIONS),
        _section("Settings", [], sections.settings(results)),
    ]
    return (section for section in found if section.charts or section.tables or section.definitions)


def _outcomes(results: Sequence[LoadedResult], runs: Sequence[LoadedResult]) -> Iterator[Section]:
    """Runs compared, and every sweep."""
    if len(runs) > 1:
        yield _section("Comparison", comparison_charts.comparison(runs), sections.comparison(runs))
    for one in results:
        if one.result.kind == "sweep":
            yield _section(f"Sweep, {one.label}", comparison_charts.sweep(one), sections.sweep_points(one))


def _behaviour(runs: Sequence[LoadedResult]) -> Iterator[Section]:
    """Latencies, rates and speculation of the runs."""
    tables = [sections.latencies(runs[0])] if len(runs) == 1 else []
    yield _section(
        "Latency", [draw(runs) for draw in (charts.ttft, charts.e2e, charts.tpot, charts.itl)], *tables
    )
    yield _section("Over time", [charts.throughput(runs)])
    accepted = [draw(runs) for draw in (charts.tau_by_kind, charts.by_kind, charts.by_position)]
    yield _section("Speculation", accepted, sections.speculation(runs))
    for run in runs:
        for name, cell in run.result.cells.items():
            title = f"Cell {name}, {run.label}"
            yield _section(title, [cells.rates(name, cell), cells.shares(name, cell)], cells.members(cell))


def _timelines(results: Sequence[LoadedResult], traces: Sequence[str]) -> Iterator[Section]:
    """Activity over time, of every run."""
    for run, trace in zip(results, traces, strict=False):
        shares = sections.shares(timeline_window(run)) if run.spans else None
        yield _section(f"Timeline, {run.label}", [timeline(run, trace)], shares, stages(run.spans))


def _section(title: str, some: Sequence[Chart | None], *tables: Table | None) -> Section:
    """A section of those charts and tables that there are."""
    return Section(title, [chart for chart in some if chart], [table for table in tables if table])


def _placed(parts: Sequence[Section]) -> list[tuple[Section, list[Plot]]]:
    """Every section with its charts at their places, two side by side; an odd last one takes the whole width."""
    numbers = count()
    placed = []
    for section in parts:
        narrow = [chart for chart in section.charts if not chart.wide]
        alone = narrow[-1] if len(narrow) % 2 else None
        plots = [
            Plot(f"chart-{next(numbers)}", chart, chart.wide or chart is alone) for chart in section.charts
        ]
        placed.append((section, plots))
    return placed


def _runs(results: Sequence[LoadedResult]) -> list[LoadedResult]:
    return [one for one in results if one.result.kind == "load"]


def _title(results: Sequence[LoadedResult]) -> str:
    return results[0].label if len(results) == 1 else f"{len(results)} results"


def _origins(results: Sequence[LoadedResult]) -> list[str]:
    """One line a result: its model, policy, endpoint, date and commit."""
    lines = []
    for one in results:
        result = one.result
        parts = [
            one.label if len(results) > 1 else "",
            str(result.config.get("model") or ""),
            one.policy,
            "simulated" if result.config.get("simulated") else "",
            str(result.config.get("url") or ""),
            result.date,
            f"commit {result.git}" if result.git else "",
        ]
        lines.append(" · ".join(part for part in parts if part))
    return lines


def _content_policy(*scripts: str) -> str:
    """The Content-Security-Policy: nothing may be fetched, and no scripts run but these."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _plotly_script() -> str:
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415  # only for reports
    except ImportError:
        raise ReportError("plotly is missing, which draws reports: pip install 'outrider[loadgen]'") from None
    return str(get_plotlyjs())


def _write_traces(results: Sequence[LoadedResult], out: Path) -> list[str]:
    """Write a trace file for every result with spans. Returns the file's name by result, "" for none."""
    names: list[str] = []
    for one in results:
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
