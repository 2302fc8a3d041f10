"""`outrider plan`: a question in JSON, a plan in JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from shared.planning.planning_query import PlanningQuery, QueryError, plan_json, read_query
from shared.planning.profile import read_profile
from shared.planning.solvers.solve import solve


def ask(source: str, profile: Path | None) -> dict[str, Any]:
    """Answer the question in a file, or on stdin if source is "-".

    Raises QuestionError, ProfileError, Infeasible and OSError.
    """
    data = _load(sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8"), source)
    if profile is not None:
        data = _with_server(data, profile)
    query = read_query(data)
    return plan(query)


def plan(query: PlanningQuery) -> dict[str, Any]:
    """Plan and time it."""
    from shared.planning.objective import Objective  # NumPy, only now

    start = time.perf_counter()
    found, solver = solve(query.problem(), Objective(query.objective), query.solver)
    return plan_json(query, found, solver, (time.perf_counter() - start) * 1e3)


def _load(text: str, source: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = "stdin" if source == "-" else source
        raise QueryError(f"{where}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise QueryError("the question is a JSON object with `server` and `users`")
    return data


def _with_server(data: dict[str, Any], profile: Path) -> dict[str, Any]:
    if "server" in data:
        raise QueryError(f"server: given in the question and by --profile {profile}; leave one out")
    measured = _load(profile.read_text(encoding="utf-8"), str(profile))
    if "schema" in measured:
        return {**data, "server": read_profile(profile).server.model_dump()}
    if "server" not in measured:
        raise QueryError(f"{profile}: has no `server`; `outrider calibrate` writes one")
    return {**data, "server": measured["server"]}
