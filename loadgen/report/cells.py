"""A radio cell in the report: the devices' rates and shares of the band over time, and their sums."""

from collections.abc import Callable, Sequence

from loadgen.report.blocks import Table
from loadgen.report.chart import PALETTE, Chart, Trace, axis, layout, line
from loadgen.report.formatting import format_number
from loadgen.results.result_reader import CellResult, CellSeries

MAX_DRAWN = 8  # devices, those with the most bytes
SHARINGS = {
    "equal": "equal shares, used or not",
    "shares": "given shares",
    "contention": "contention: those who transfer at the moment share the time",
}


def rates(name: str, cell: CellResult) -> Chart | None:
    """What each device transferred over time, both directions."""
    return _chart(
        f"cell-{name}-rates",
        "Transferred",
        "Both directions, mean of each step.",
        cell,
        "kbit/s",
        lambda series: [
            8e-3 * had / seconds for had, seconds in zip(series.bytes, _steps_s(cell), strict=True)
        ],
    )


def shares(name: str, cell: CellResult) -> Chart | None:
    """Which part of the band each device used over time; dotted what it was given, where that changed."""
    dotted = any(len(set(series.given)) > 1 for series in cell.series.values())
    return _chart(
        f"cell-{name}-shares",
        "Share of the band",
        "Band × time that a device used, of all there was."
        + (" Dotted: what it was given." if dotted else ""),
        cell,
        "%",
        lambda series: [100 * share for share in series.share],
        (lambda series: [None if given is None else 100 * given for given in series.given])
        if dotted
        else None,
    )


def members(cell: CellResult) -> Table:
    """A row per device."""
    given = {device: series.given[-1:] for device, series in cell.series.items()}
    rows = [
        [
            member.device,
            format_number(member.up_bytes, 1e-3),
            format_number(member.down_bytes, 1e-3),
            format_number(
                8e-3 * (member.up_bytes + member.down_bytes) / cell.seconds if cell.seconds else None
            ),
            format_number(member.share, 100),
            format_number(next(iter(given.get(member.device, ())), None), 100),
        ]
        for member in cell.members
    ]
    fairness = f"{format_number(cell.jain_bytes)} for bytes, {format_number(cell.jain_share)} for the band"
    used = format_number(sum(member.share for member in cell.members), 100)
    return Table(
        ["device", "up, kB", "down, kB", "kbit/s", "used, % of the band", "given at the end, %"],
        rows,
        before=f"{SHARINGS.get(cell.sharing, cell.sharing)}; {used} % of the band was in use.".capitalize(),
        after=f"Jain's index over the devices: {fairness}; 1: all had as much.",
    )


def _chart(
    name: str,
    title: str,
    caption: str,
    cell: CellResult,
    unit: str,
    values: Callable[[CellSeries], Sequence[float | None]],
    dotted: Callable[[CellSeries], Sequence[float | None]] | None = None,
) -> Chart | None:
    drawn = _drawn(cell)
    if not cell.at_s or not drawn:
        return None
    traces: list[Trace] = []
    for at, device in enumerate(drawn):
        colour, series = PALETTE[at % len(PALETTE)], cell.series[device]
        hover = {"hovertemplate": f"%{{x:.1f}} s: %{{y:.4~g}} {unit}<extra>%{{fullData.name}}</extra>"}
        traces.append(line(device, cell.at_s, values(series), colour, shape="vh", **hover))
        if dotted is not None:
            more = {"dash": "dot", "showlegend": False, **hover}
            traces.append(line(device, cell.at_s, dotted(series), colour, shape="vh", **more))
    if len(drawn) < len(cell.members):
        caption += f" The {len(drawn)} devices of {len(cell.members)} with the most bytes."
    x = axis("s from the load's start")
    return Chart(name, title, caption, traces, layout(x, axis(unit, rangemode="tozero")))


def _drawn(cell: CellResult) -> list[str]:
    """The devices to draw, in the table's order."""
    by_bytes = sorted(cell.series, key=lambda device: -sum(cell.series[device].bytes))
    return [device for device in cell.series if device in by_bytes[:MAX_DRAWN]]


def _steps_s(cell: CellResult) -> list[float]:
    return [end - begin for begin, end in zip([0.0, *cell.at_s], cell.at_s, strict=False)]
