"""Draws the simulator's speed by the number of devices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def draw(path: Path, rows: Sequence[Row]) -> None:
    """CPU time of a round, and peak memory, by devices. rows: of the bench's result file. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    time, memory = figure.subplots(1, 2)
    devices = [row["devices"] for row in rows]
    time.plot(devices, [row["us_per_round"] for row in rows], "o-", label="now")
    before = [(row["devices"], 1e6 / row["before"]) for row in rows if "before" in row]
    if before:
        time.plot(*zip(*before, strict=True), "s--", label="before")
        time.legend()
    time.set_ylabel("CPU time of a round, µs")
    memory.plot(devices, [row["peak_mib"] / 1024 for row in rows], "o-")
    memory.set_ylabel("peak memory, GiB")
    for plot in (time, memory):
        plot.set_xlabel("devices")
        plot.set_xscale("log")
        plot.set_ylim(bottom=0)
        plot.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
