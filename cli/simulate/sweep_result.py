"""The result of a sweep, in loadgen's form, and its picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.simulate.picture import draw
from cli.simulate.sweep_field import POLICY, SEED, K
from cli.simulate.table import TableRow
from loadgen.results.result_file import write_result
from loadgen.run.sweep import knees_and_crossovers
from shared.scenario.quantity import parse

RATE, USERS = "load.rate", "load.concurrency"
NOT_AN_AXIS: Final = (POLICY, SEED)


def write_sweep(rows: Sequence[TableRow], total: int) -> list[Path]:
    """Write SCENARIO/sweep.json and sweep.png of one scenario's runs. Returns the files. Raises OSError.

    total: runs of the whole sweep.
    """
    run = rows[0].run
    out = run.folder / "sweep.json"
    axis = axis_of(run.fields)
    points = [_point(row, axis) for row in rows]
    knees: Mapping[str, Any] = {}
    if axis in (RATE, USERS) and all(point["level"] is not None for point in points):
        knees = knees_and_crossovers(points, axis == RATE)
    config = {"simulated": True, "scenario": run.scenario, "label": run.scenario, "axis": axis}
    body = {"points": points, **knees, "partial": len(rows) < total}
    write_result(out, "sweep", config, body, measured=False)
    picture = out.with_suffix(".png")
    draw(picture, run.scenario, axis, points)
    return [out, picture]


def axis_of(fields: Mapping[str, Any]) -> str:
    """The swept field that a picture has on its horizontal axis: the first that is not a policy or a seed."""
    return next((path for path in fields if path not in NOT_AN_AXIS), next(iter(fields)))


def level(value: Any) -> float | None:
    """A swept value as a number, in ms if it is a time; None if it is none."""
    try:
        quantity = parse(value)
    except ValueError:
        return None
    if quantity.low != quantity.high:
        return None
    return 1e3 * quantity.low if quantity.unit == "s" else quantity.low


def line_of(row: TableRow, axis: str) -> str:
    """The line of a picture that a run belongs to: its policy, and the swept fields beside the axis and the seed."""
    policy = row.run.simulation.policy.policy if axis == K else row.run.policy
    others = [
        f"{path.rpartition('.')[2]}={value}"
        for path, value in row.run.fields.items()
        if path not in (axis, POLICY, SEED, K)
    ]
    return ", ".join([policy, *others])


def _point(row: TableRow, axis: str) -> dict[str, Any]:
    value = row.run.fields[axis]
    at = level(value)
    seeds = row.run.fields.get(SEED)
    return {
        "policy": row.run.policy if axis == POLICY else line_of(row, axis),
        "fields": dict(row.run.fields),
        "value": value,
        "level": at,
        "rate": at if axis == RATE else None,
        "concurrency": at if axis == USERS else None,
        "repeat": seeds if isinstance(seeds, int) else 0,
        "valid": row.body["valid"],
        "problems": row.body["problems"],
        "class": row.body["class"],
        "figures": row.body["figures"],
        "stack": row.body["stack"],
        "file": str(row.run.result.relative_to(row.run.folder)),
    }
