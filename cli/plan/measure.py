"""How good and how fast the solvers are: `python -m cli.plan.measure`, written to docs/planning.md."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shared.planning.instances import LAWS, crowded, heterogeneous, of_classes
from shared.planning.objective import OBJECTIVES, Objective
from shared.planning.problem import Problem
from shared.planning.solvers import exact, paper, search
from shared.planning.solvers.arrays import Arrays
from shared.planning.solvers.bound import upper_bound
from shared.planning.solvers.milp import OutOfTime
from shared.planning.solvers.plan import Plan

GOAL = Objective()


def quality(instances: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Gaps of ours to the exact optimum, per cent of its score, for 2 to 7 users under both laws."""
    gaps: dict[str, list[float]] = {law: [] for law in LAWS}
    for seed in range(instances):
        law, users = LAWS[seed % 2], 2 + seed // 2 % 6
        goal = Objective(OBJECTIVES[seed // 12 % 2])
        arrays = Arrays.of(heterogeneous(seed, users, law=law, min_draft=seed // 24 % 2), goal)
        ours = _must(search.solve(arrays))
        best = _must(exact.solve(arrays, ours))
        gaps[law].append(100 * (1 - ours.score / best.score))
        if seed % 20 == 19:
            say(f"  {seed + 1}/{instances}: worst {max(max(of, default=0.0) for of in gaps.values()):.4f} %")
    return {
        law: {"instances": len(of), "mean_percent": statistics.fmean(of), "worst_percent": max(of)}
        for law, of in gaps.items()
    }


def against_paper(
    users: Sequence[int], instances: int, limit_s: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """What the paper's solver gives up against ours, per cent, and its time; up to the M where it needs limit_s."""
    rows = []
    for count in users:
        losses, times, ours_ms = [], [], []
        for seed in range(instances):
            arrays = Arrays.of(heterogeneous(1000 + seed, count, law="padded"), GOAL)
            start = time.perf_counter()
            ours = _must(search.solve(arrays))
            ours_ms.append((time.perf_counter() - start) * 1e3)
            start = time.perf_counter()
            until = start + limit_s
            try:
                theirs = _must(paper.solve(arrays, lambda until=until: until - time.perf_counter()))  # type: ignore[misc]
            except OutOfTime:
                say(f"  M = {count}: out of time after {limit_s:g} s")
                rows.append(
                    {"users": count, "out_of_time_s": limit_s, "outrider_ms": statistics.median(ours_ms)}
                )
                return rows
            times.append((time.perf_counter() - start) * 1e3)
            losses.append(100 * (ours.score / theirs.score - 1))
        rows.append(
            {
                "users": count,
                "instances": instances,
                "ours_ahead_percent_mean": statistics.fmean(losses),
                "ours_ahead_percent_least": min(losses),
                "ours_ahead_percent_most": max(losses),
                "paper_ms": statistics.median(times),
                "outrider_ms": statistics.median(ours_ms),
            }
        )
        say(f"  {json.dumps(rows[-1])}")
    return rows


def below_bound(users: Sequence[int], instances: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """How far ours is below a proven upper bound, per cent."""
    rows = []
    for count in users:
        for law in LAWS:
            gaps = []
            for seed in range(instances):
                arrays = Arrays.of(heterogeneous(2000 + seed, count, law=law), GOAL)
                gaps.append(100 * (1 - _must(search.solve(arrays)).score / upper_bound(arrays, 1e-3)))
            rows.append(
                {
                    "users": count,
                    "law": law,
                    "mean_percent": statistics.fmean(gaps),
                    "worst_percent": max(gaps),
                }
            )
            say(f"  {json.dumps(rows[-1])}")
    return rows


def speed(say: Callable[[str], None], repeats: int = 5) -> list[dict[str, Any]]:
    """Milliseconds of a plan from nothing, and again after one user's change."""
    cases: list[tuple[str, Callable[[int, str], Problem]]] = [
        ("14", lambda seed, law: heterogeneous(seed, 14, law=law)),
        ("100", lambda seed, law: heterogeneous(seed, 100, law=law)),
        ("1000", lambda seed, law: heterogeneous(seed, 1000, law=law)),
        ("10000 of 20 classes", lambda seed, law: of_classes(seed, 10_000, 20, law=law)),
        ("1000, memory for 49 a batch", lambda seed, law: crowded(seed, 1000, law=law)),
        ("10000 of 20 classes, memory for 49 a batch", lambda seed, law: crowded(seed, 10_000, 20, law=law)),
    ]
    rows = []
    for name, make in cases:
        for law in LAWS:
            cold, warm = [], []
            for seed in range(repeats):
                problem, changed = make(3000 + seed, law), make(4000 + seed, law)
                arrays = Arrays.of(problem, GOAL)
                start = time.perf_counter()
                plan = _must(search.solve(arrays))
                cold.append((time.perf_counter() - start) * 1e3)
                users = (changed.users[0], *problem.users[1:])
                start = time.perf_counter()
                arrays = Arrays.of(Problem(users, problem.server, problem.bounds), GOAL)
                search.replan(arrays, plan.split.batches, plan.cycle_ms, changed=[0])
                warm.append((time.perf_counter() - start) * 1e3)
            rows.append(
                {
                    "users": name,
                    "law": law,
                    "cold_ms": statistics.median(cold),
                    "cold_ms_worst": max(cold),
                    "warm_ms": statistics.median(warm),
                    "warm_ms_worst": max(warm),
                }
            )
            say(f"  {json.dumps(rows[-1])}")
    return rows


def _must(plan: Plan | None) -> Plan:
    assert plan is not None  # noqa: S101  # instances are made to fit
    return plan


def main(
    instances: Annotated[
        int, typer.Option(help="Random problems for the comparison with exact plans.")
    ] = 240,
    limit_s: Annotated[float, typer.Option(help="Seconds that the paper's solver may take.")] = 60.0,
    out: Annotated[Path, typer.Option(help="Result file.")] = Path(".outrider/planning.json"),
) -> None:
    """Measure all solvers on seeded random problems."""
    say = Console(highlight=False, soft_wrap=True).print
    result: dict[str, Any] = {}
    say("Speed")
    result["speed"] = speed(say)
    say("Quality, M = 2 to 7, against exact plans")
    result["quality"] = quality(instances, say)
    say("Below a proven bound")
    result["below_bound"] = below_bound((14, 50), 5, say)
    say("Against the paper's solver")
    result["against_paper"] = against_paper((2, 4, 6, 8, 10, 12, 14), 3, limit_s, say)
    from loadgen.measuring.result import write_measurement

    write_measurement(out, "planning", {"instances": instances, "limit_s": limit_s}, result)
    say(f"Written to {out}")


if __name__ == "__main__":
    typer.run(main)
