"""Draws the comparison: each controller against the fixed length, cell by cell."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.bench.windows.cells import BASELINE
from cli.bench.windows.comparison import MEASURES, CellResult
from cli.bench.windows.rolling import Floats


def draw(path: Path, results: Sequence[CellResult], controllers: Sequence[str]) -> None:
    """A row of panels for each recording, speed beside throughput; loads within round-trip times. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure

    recordings = list(dict.fromkeys(result.cell.recording for result in results))
    figure = Figure(figsize=(11, 3.4 * len(recordings)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(recordings), len(MEASURES), squeeze=False)
    for line, recording in zip(panels, recordings, strict=True):
        cells = [result for result in results if result.cell.recording == recording]
        labels = [f"{result.cell.load:g}\n{result.cell.rtt_ms:g} ms" for result in cells]
        for panel, measure in zip(line, MEASURES, strict=True):
            for at, controller in enumerate(controllers):
                if controller != BASELINE:
                    heights = [result.ratio(controller, measure) for result in cells]
                    panel.plot(
                        heights, label=controller, color=f"C{at}", marker="o", markersize=3, linewidth=1
                    )
            panel.axhline(1.0, color="0.5", linewidth=1)
            panel.set_title(f"{recording}: {measure} over that of k = 4", fontsize=9)
            panel.set_xticks(range(len(cells)), labels, fontsize=5.5)
            panel.grid(alpha=0.25)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def draw_steps(path: Path, found: Mapping[str, tuple[Floats, Mapping[str, Floats]]], steps: Floats) -> None:
    """A panel per step: each controller's share of the oracle's speed over time.

    found: times and shares by controller. steps: when the step is made and undone. Raises OSError.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for panel, (step, (times, shares)) in zip(panels, found.items(), strict=True):
        for at, (controller, values) in enumerate(shares.items()):
            panel.plot(times, values, label=controller, color=f"C{at}", linewidth=1)
        for moment in steps:
            panel.axvline(moment, color="0.5", linestyle=":")
        panel.set_title(f"a step in {step}: share of the oracle's speed", fontsize=9)
        panel.set_xlabel("seconds")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.25)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
