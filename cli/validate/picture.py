"""Draws a validation: live against simulated, a panel for each metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cli.validate.agreement import Compared
from cli.validate.run_metrics import METRICS

PANELS: Final = ("throughput", "TTFT p50", "TPOT p50", "round p50")
BAND: Final = 0.05


def draw(path: Path, cells: Sequence[Compared]) -> None:
    """Write the picture. A colour is a scenario; the grey band is ±BAND."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    scenarios = list(dict.fromkeys(cell.scenario for cell in cells))
    for panel, name in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        metric = METRICS[name]
        values = [
            value
            for cell in cells
            for value in (metric.of(cell.live), metric.of(cell.simulated))
            if value > 0
        ]
        ends = [min(values, default=1.0) * 0.9, max(values, default=1.0) * 1.1]
        panel.fill_between(
            ends, [e * (1 - BAND) for e in ends], [e * (1 + BAND) for e in ends], color="#dddddd"
        )
        panel.plot(ends, ends, color="#888888", linewidth=1)
        for number, scenario in enumerate(scenarios):
            of = [cell for cell in cells if cell.scenario == scenario]
            x, y = [metric.of(cell.live) for cell in of], [metric.of(cell.simulated) for cell in of]
            panel.plot(x, y, "o", color=f"C{number}", label=scenario, markersize=5)
        panel.set(xscale="log", yscale="log", title=name, xlabel=f"live, {metric.unit}", ylabel="simulated")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "235" else "")
    figure.axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
