"""Draws the methods of `outrider paper hetero`: latency over users, and over the bits of a token."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from shared.planning.latency.paper_cell import Setting

DASHES: Final = ("-", "--", "-.", ":")  # several methods are the same plan in places


class Point(Protocol):
    """What is drawn of a point."""

    @property
    def users(self) -> int:
        """Users of its cohorts."""
        ...

    @property
    def setting(self) -> Setting:
        """What the paper leaves open."""
        ...

    @property
    def latency_ms(self) -> dict[str, float]:
        """Mean latency by method."""
        ...


def draw(path: Path, by_users: Sequence[Point], by_bits: Sequence[Point], methods: Sequence[str]) -> None:
    """Two panels, a line for each method; the first method is drawn thickest. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for at, method in enumerate(methods):
        style = {"color": f"C{at}", "marker": "o", "markersize": 3, "linewidth": 1.2 if at else 2.4}
        style["linestyle"] = DASHES[at % len(DASHES)]
        panels[0].plot(
            [p.users for p in by_users], [p.latency_ms[method] / 1e3 for p in by_users], label=method, **style
        )
        panels[1].plot(
            [p.setting.bits_per_token for p in by_bits],
            [p.latency_ms[method] / p.latency_ms[methods[0]] for p in by_bits],
            **style,
        )
    bits = by_users[0].setting.bits_per_token
    panels[0].set(
        xlabel=f"users, {bits:,.0f} bits per token", ylabel="seconds to the last answer", yscale="log"
    )
    panels[1].set(
        xlabel=f"bits per token, {by_bits[0].users} users",
        ylabel=f"latency over that of {methods[0]}",
        xscale="log",
        yscale="log",
    )
    for panel in panels:
        panel.grid(alpha=0.25)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
