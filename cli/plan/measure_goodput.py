"""Gains of objective `goodput`: `python -m cli.plan.measure_goodput` makes the tables of docs/hetero.md."""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import inf
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared.planning.goodput import baselines, brute_force, goodput_solver
from shared.planning.goodput.drafting_cells import DraftingCells
from shared.planning.goodput.goodput_plan import GoodputPlan, goodput_of
from shared.planning.goodput.paper_cells import Devices, paper_cells
from shared.planning.goodput.random_cells import random_cells
from shared.planning.goodput.uplink import BestShares, EqualShares
from shared.planning.latency.paper_cell import PAIRS

UNTUNED: Final = 5  # a length for all that nobody chose for the cell
OURS: Final = "joint"
OVER: Final = "equal shares, best length for all"
METHODS: Final[dict[str, Callable[[DraftingCells], GoodputPlan]]] = {
    OURS: goodput_solver.solve,
    OVER: baselines.equal_fixed,
    "equal shares, own lengths": baselines.equal_own,
    "best shares, best length for all": baselines.best_fixed,
    f"equal shares, {UNTUNED} for all": lambda cells: baselines.equal_given(cells, UNTUNED),
}
PUBLISHED_PERCENT: Final = 88
USERS: Final = (4, 8, 16, 32)
IDS, SOME, STATES, LOGITS, LARGE = 16.0, 1e3, 16.0 * 768, 16.0 * 32_000, 16.0 * 250_000
BITS: Final = (IDS, SOME, STATES, 65_536.0, LOGITS, LARGE)
DEADLINES_MS: Final = (inf, 60.0, 40.0, 30.0, 25.0)


@dataclass(frozen=True, slots=True)
class Point:
    """Plans of all methods in the same random cells. gains: in per cent over each method, one for each cell."""

    devices: Devices
    goodput: dict[str, float]
    gains: dict[str, tuple[float, ...]]
    draft_length: dict[str, float]
    late: dict[str, float]

    def gain(self, over: str = OVER) -> str:
        """Mean and best gain over a method, in per cent."""
        return f"{statistics.fmean(self.gains[over]):.1f} ({max(self.gains[over]):.1f})"


def point(devices: Devices, draws: int) -> Point:
    """All methods in some random cells."""
    plans: dict[str, list[GoodputPlan]] = {name: [] for name in METHODS}
    for seed in range(draws):
        cells = paper_cells(seed, devices)
        for name, method in METHODS.items():
            plans[name].append(method(cells))
    ours = plans[OURS]
    return Point(
        devices,
        {name: statistics.fmean(plan.goodput for plan in each) for name, each in plans.items()},
        {
            name: tuple(
                100 * (plan.goodput / other.goodput - 1) if other.goodput else inf
                for plan, other in zip(ours, each, strict=True)
            )
            for name, each in plans.items()
            if name != OURS
        },
        {name: _mean(length for plan in each for length in plan.lengths) for name, each in plans.items()},
        {name: _mean(len(plan.late) for plan in each) for name, each in plans.items()},
    )


def sweeps() -> dict[str, list[Devices]]:
    """The points of each table."""
    sizes = list(product((0, 1), PAIRS[:2], BITS, USERS))
    kinds = list(product((STATES, LOGITS), (True, False), (True, False), (True, False)))
    return {
        "cells": [Devices(users, bits, pair, shortest) for shortest, pair, bits, users in sizes],
        "diversity": [
            Devices(16, bits, min_draft=1, radio=radio, alpha=alpha, speed=speed)
            for bits, radio, alpha, speed in kinds
        ],
        "deadlines": [
            Devices(16, bits, deadline_ms=each) for bits in (SOME, STATES) for each in DEADLINES_MS
        ],
    }


def quality(instances: int) -> dict[str, Any]:
    """Goodput below that of brute force in per cent, for 1 to 8 users, with best shares and with equal ones.

    Drafts of up to 6 tokens; of 3 for more than 6 users.
    """
    below: dict[str, list[float]] = {"best": [], "equal": []}
    for seed in range(instances):
        users = 1 + seed % 8
        cells = random_cells(seed, users, max_draft=6 if users <= 6 else 3)
        for name, uplink in (("best", BestShares(cells)), ("equal", EqualShares(cells))):
            best = float(goodput_of(cells, uplink, brute_force.best_lengths(cells, uplink)))
            found = float(goodput_of(cells, uplink, goodput_solver.best_lengths(cells, uplink)))
            below[name].append(100 * (1 - found / best) if best else 0.0)
    return {"instances": instances, **{name: _spread(each) for name, each in below.items()}}


def planning_ms(instances: int) -> list[dict[str, Any]]:
    """Milliseconds of the processor to plan, without and with deadlines (every third random cell has some)."""
    rows = []
    for users in (4, 16, 32, 64, 100, 1000):
        took: dict[bool, list[float]] = {False: [], True: []}
        for seed in range(3 * instances):
            cells, start = random_cells(seed, users, max_draft=20), time.process_time()
            goodput_solver.solve(cells)
            took[seed % 3 == 0].append(1e3 * (time.process_time() - start))
        rows.append(
            {"users": users, "free_ms": _spread(took[False], 1), "deadlines_ms": _spread(took[True], 1)}
        )
    return rows


def main(
    out: Annotated[Path, typer.Option(help="JSON.")] = Path(".outrider/goodput.json"),
    draws: Annotated[int, typer.Option(min=1, max=1000, help="Random cells of each point.")] = 20,
    instances: Annotated[int, typer.Option(min=1, max=10_000, help="Cells compared with brute force.")] = 300,
) -> None:
    """Measure, print tables, write all points as JSON; some minutes."""
    console, jobs = Console(highlight=False), sweeps()
    points: dict[str, list[Point]] = {name: [] for name in jobs}
    every = [(name, devices) for name, each in jobs.items() for devices in each]
    for name, devices in track(every, "cells", console=Console(stderr=True), transient=True):
        points[name].append(point(devices, draws))
    for shortest, pair in product((0, 1), PAIRS[:2]):
        console.print(cells_table(points["cells"], shortest, pair))
    console.print(methods_table([each for each in points["cells"] if each.devices.users == USERS[2]]))
    console.print(diversity_table(points["diversity"]))
    console.print(deadline_table(points["deadlines"]))
    results = {
        "published_percent": PUBLISHED_PERCENT,
        "draws": draws,
        **{name: [as_json(each) for each in some] for name, some in points.items()},
        "quality_percent": quality(instances),
        "planning_ms": planning_ms(4),
    }
    console.print_json(json.dumps({name: results[name] for name in ("quality_percent", "planning_ms")}))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def cells_table(points: Sequence[Point], shortest: int, pair: tuple[str, str]) -> Table:
    """Gains over bits and users."""
    title = f"{'/'.join(pair)}, drafts from {shortest}; published: up to {PUBLISHED_PERCENT} %"
    table = Table("bits a token", *(f"{users} users" for users in USERS), title=title)
    for bits in BITS:
        row = [
            each
            for each in points
            if (each.devices.bits_per_token, each.devices.pair, each.devices.min_draft)
            == (bits, pair, shortest)
        ]
        table.add_row(f"{bits:g}", *(each.gain() for each in row))
    return table


def methods_table(points: Sequence[Point]) -> Table:
    """Gains over each method, our mean length and the best one for all."""
    table = Table("drafts from", "pair", "bits a token", *list(METHODS)[1:], "lengths", "for all")
    for each in points:
        devices = each.devices
        table.add_row(
            str(devices.min_draft),
            "/".join(devices.pair),
            f"{devices.bits_per_token:g}",
            *(each.gain(name) for name in list(METHODS)[1:]),
            *(f"{each.draft_length[name]:.1f}" for name in (OURS, OVER)),
        )
    return table


def diversity_table(points: Sequence[Point]) -> Table:
    """Gains over what differs between devices."""
    table = Table("bits a token", "radio", "α", "speed", *list(METHODS)[1:])
    for each in points:
        devices = each.devices
        differs = ["differ" if one else "alike" for one in (devices.radio, devices.alpha, devices.speed)]
        table.add_row(
            f"{devices.bits_per_token:g}", *differs, *(each.gain(name) for name in list(METHODS)[1:])
        )
    return table


def deadline_table(points: Sequence[Point]) -> Table:
    """Mean goodput and mean number of late users over deadlines."""
    table = Table("bits a token", "deadline, ms a token", *(f"{name}: tokens/s (late)" for name in METHODS))
    for each in points:
        cells = [f"{each.goodput[name]:.0f} ({each.late[name]:.1f})" for name in METHODS]
        table.add_row(f"{each.devices.bits_per_token:g}", f"{each.devices.deadline_ms:g}", *cells)
    return table


def as_json(each: Point) -> dict[str, Any]:
    """A point: mean goodputs in tokens/s, mean and best gains in per cent, mean lengths and late users."""
    devices = asdict(each.devices)
    devices["deadline_ms"] = None if each.devices.deadline_ms == inf else each.devices.deadline_ms
    gains = {
        name: {"mean": round(statistics.fmean(some), 3), "best": round(max(some), 3)}
        for name, some in each.gains.items()
        if max(some) < inf
    }
    return {
        **devices,
        "goodput": {name: round(tokens, 3) for name, tokens in each.goodput.items()},
        "gain_percent": gains,
        "draft_length": {name: round(length, 3) for name, length in each.draft_length.items()},
        "late": {name: round(late, 3) for name, late in each.late.items()},
    }


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _spread(values: Sequence[float], digits: int = 6) -> dict[str, float]:
    return {"mean": round(statistics.fmean(values), digits), "worst": round(max(values), digits)}


if __name__ == "__main__":
    typer.run(main)
