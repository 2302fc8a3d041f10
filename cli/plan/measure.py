"""Quality and speed of the solvers: `python -m cli.plan.measure` makes the tables of docs/planning.md."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shared.planning.instances import LAWS, heterogeneous, memory_bound, of_classes
from shared.planning.objective import OBJECTIVES, Objective
from shared.planning.problem import Problem
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.exact import exact_solver
from shared.planning.solvers.exact.upper_bound import upper_bound
from shared.planning.solvers.paper import paper_solver
from shared.planning.solvers.paper.milp import OutOfTime
from shared.planning.solvers.search import search_solver

GOAL = Objective()


def quality(instances: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Gaps between our plans and exact ones, in per cent of the score, for 2 to 7 users under both laws."""
    gaps: dict[str, list[float]] = {law: [] for law in LAWS}
    for seed in range(instances):
        law, users = LAWS[seed % 2], 2 + seed // 2 % 6
        goal = Objective(OBJECTIVES[seed // 12 % 2])
        arrays = ProblemArrays.of(heterogeneous(seed, users, law=law, min_draft=seed // 24 % 2), goal)
        ours = _must(search_solver.solve(arrays))
        best = _must(exact_solver.solve(arrays, ours))
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
    """Gain of our plans over those of the paper's solver, in per cent, and its time; up to the M that takes limit_s."""
    rows = []
    for count in users:
        losses, times, ours_ms = [], [], []
        for seed in range(instances):
            arrays = ProblemArrays.of(heterogeneous(1000 + seed, count, law="padded"), GOAL)
            start = time.perf_counter()
            ours = _must(search_solver.solve(arrays))
            ours_ms.append((time.perf_counter() - start) * 1e3)
            start = time.perf_counter()
            until = start + limit_s
            try:
                theirs = _must(paper_solver.solve(arrays, lambda until=until: until - time.perf_counter()))  # type: ignore[misc]
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
    """Gaps between our plans and a proven upper bound, in per cent."""
    rows = []
    for count in users:
        for law in LAWS:
            gaps = []
            for seed in range(instances):
                arrays = ProblemArrays.of(heterogeneous(2000 + seed, count, law=law), GOAL)
                gaps.append(100 * (1 - _must(search_solver.solve(arrays)).score / upper_bound(arrays, 1e-3)))
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
    """Milliseconds of a plan without a warm start, and of one after a change of one user."""
    cases: list[tuple[str, Callable[[int, str], Problem]]] = [
        ("14", lambda seed, law: heterogeneous(seed, 14, law=law)),
        ("100", lambda seed, law: heterogeneous(seed, 100, law=law)),
        ("1000", lambda seed, law: heterogeneous(seed, 1000, law=law)),
        ("10000 of 20 classes", lambda seed, law: of_classes(seed, 10_000, 20, law=law)),
        ("1000, memory for 49 a batch", lambda seed, law: memory_bound(seed, 1000, law=law)),
        (
            "10000 of 20 classes, memory for 49 a batch",
            lambda seed, law: memory_bound(seed, 10_000, 20, law=law),
        ),
    ]
    rows = []
    for name, make in cases:
        for law in LAWS:
            cold, warm = [], []
            for seed in range(repeats):
                problem, changed = make(3000 + seed, law), make(4000 + seed, law)
                arrays = ProblemArrays.of(problem, GOAL)
                start = time.perf_counter()
                plan = _must(search_solver.solve(arrays))
                cold.append((time.perf_counter() - start) * 1e3)
                users = (changed.users[0], *problem.users[1:])
                start = time.perf_counter()
                arrays = ProblemArrays.of(Problem(users, problem.server, problem.bounds), GOAL)
                search_solver.replan(arrays, plan.split.batches, plan.cycle_ms, changed=[0])
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


def _must(plan: ScoredPlan | None) -> ScoredPlan:
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
