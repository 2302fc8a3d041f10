"""`outrider plan`: reads a query in JSON and answers with a plan in JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from shared.planning.planning_query import PlanningQuery, QueryError, plan_json, read_query
from shared.planning.profile import read_profile
from shared.planning.solvers.solve import solve


def plan_source(source: str, profile: Path | None) -> dict[str, Any]:
    """Plan the query in a file, or on stdin if source is "-".

    profile: file with the server, instead of a `server` in the query. Raises QueryError, ProfileError, Infeasible,
    ValueError (too many users for the exact solver) and OSError.
    """
    data = _load(sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8"), source)
    if profile is not None:
        data = _with_server(data, profile)
    if data.get("objective") == "latency":
        return plan_latency_query(data)
    if data.get("objective") == "goodput":
        return plan_goodput_query(data)
    return plan_query(read_query(data))


def plan_query(query: PlanningQuery) -> dict[str, Any]:
    """Plan a query; the answer as JSON, with the time that planning took."""
    from shared.planning.objective import Objective  # loads NumPy only here

    start = time.perf_counter()
    cycle_plan, solver = solve(query.problem(), Objective(query.objective), query.solver)
    return plan_json(query, cycle_plan, solver, (time.perf_counter() - start) * 1e3)


def plan_latency_query(data: dict[str, Any]) -> dict[str, Any]:
    """Plan a query of objective `latency`. Raises QueryError, CellError and Infeasible."""
    from shared.planning.latency import latency_query  # loads NumPy only here

    query = latency_query.read_latency_query(data)
    cohort = query.cohort()
    start = time.perf_counter()
    plan, solver = latency_query.solve(cohort, query.solver)
    plan_ms = (time.perf_counter() - start) * 1e3
    return latency_query.latency_json(query, cohort, plan, solver, plan_ms)


def plan_goodput_query(data: dict[str, Any]) -> dict[str, Any]:
    """Plan a query of objective `goodput`. Raises QueryError, CellError and Infeasible."""
    from shared.planning.goodput import goodput_query  # loads NumPy only here

    query = goodput_query.read_goodput_query(data)
    cells = query.drafting_cells()
    start = time.perf_counter()
    plan, solver = goodput_query.solve(cells, query.solver)
    return goodput_query.goodput_json(query, cells, plan, solver, (time.perf_counter() - start) * 1e3)


def _load(text: str, source: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = "stdin" if source == "-" else source
        raise QueryError(f"{where}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise QueryError("the query is a JSON object with `server` and `users`")
    return data


def _with_server(data: dict[str, Any], profile: Path) -> dict[str, Any]:
    if "server" in data:
        raise QueryError(f"server: given in the query and by --profile {profile}; leave one out")
    measured = _load(profile.read_text(encoding="utf-8"), str(profile))
    if "schema" in measured:
        return {**data, "server": read_profile(profile).server.model_dump()}
    if "server" not in measured:
        raise QueryError(f"{profile}: has no `server`; `outrider calibrate` writes one")
    return {**data, "server": measured["server"]}
