"""Chooses and runs a solver."""

from collections.abc import Callable
from math import inf
from typing import Literal

from shared.planning.objective import Objective
from shared.planning.problem import Problem
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.exact import exact_solver
from shared.planning.solvers.search import search_solver

SolverName = Literal["auto", "outrider", "exact", "paper"]
AUTO_EXACT = 6  # up to so many users `auto` is the exact solver


class Infeasible(ValueError):
    """No plan is within memory and bounds; the text says what to change."""


def solve(
    problem: Problem,
    objective: Objective,
    solver: SolverName = "auto",
    *,
    seconds_left: Callable[[], float] = lambda: inf,
) -> tuple[ScoredPlan, SolverName]:
    """The best plan that a solver finds, and the solver that found it.

    seconds_left: time limit of `paper`, which raises OutOfTime. Raises Infeasible, and ValueError for more users than
    `exact` can search.
    """
    arrays = ProblemArrays.of(problem, objective)
    _check(problem, arrays)
    if solver == "auto":
        solver = "exact" if len(arrays) <= AUTO_EXACT else "outrider"
    if solver == "exact" and not exact_solver.searchable(arrays):
        raise ValueError(
            f"solver: exact takes at most {exact_solver.MAX_USERS} users who all differ, "
            f"and more only where many are equal; "
            f"these {len(arrays)} can be split in too many ways; take outrider"
        )
    if solver == "exact":
        plan = exact_solver.solve(arrays, search_solver.solve(arrays))
    elif solver == "paper":
        from shared.planning.solvers.paper import paper_solver  # noqa: PLC0415  # SciPy is loaded only for this solver

        plan = paper_solver.solve(arrays, seconds_left)
    else:
        plan = search_solver.solve(arrays)
    if plan is None:
        raise Infeasible(
            "memory_bytes and max_batches: the users do not fit; give the server more memory or allow more batches"
        )
    return plan, solver


def _check(problem: Problem, arrays: ProblemArrays) -> None:
    """Raise Infeasible if a user alone exceeds the memory, or min_batches the users."""
    for user in problem.users:
        need = float(problem.server.needed_bytes(1, user.prefix, user.prefix))
        if need > problem.server.memory_bytes:
            raise Infeasible(
                f"memory_bytes: user {user.id!r} with prefix {user.prefix} alone needs {need:.4g} bytes, "
                f"the server has {problem.server.memory_bytes:.4g}"
            )
    if problem.bounds.min_batches > arrays.max_batches:
        raise Infeasible(
            f"min_batches: {problem.bounds.min_batches} batches, but no more than {arrays.max_batches} are possible "
            f"with {len(arrays)} users"
        )
