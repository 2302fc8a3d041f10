"""`outrider plan`: a question in JSON, a plan in JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from shared.planning.planning_query import PlanningQuery, QuestionError, answer, read_question
from shared.planning.profile import read_profile
from shared.planning.solvers.solve import solve


def ask(source: str, profile: Path | None) -> dict[str, Any]:
    """Answer the question in a file, or on stdin if source is "-".

    Raises QuestionError, ProfileError, Infeasible and OSError.
    """
    data = _load(sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8"), source)
    if profile is not None:
        data = _with_server(data, profile)
    question = read_question(data)
    return plan(question)


def plan(question: PlanningQuery) -> dict[str, Any]:
    """Plan and time it."""
    from shared.planning.objective import Objective  # NumPy, only now

    start = time.perf_counter()
    found, solver = solve(question.problem(), Objective(question.objective), question.solver)
    return answer(question, found, solver, (time.perf_counter() - start) * 1e3)


def _load(text: str, source: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = "stdin" if source == "-" else source
        raise QuestionError(f"{where}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise QuestionError("the question is a JSON object with `server` and `users`")
    return data


def _with_server(data: dict[str, Any], profile: Path) -> dict[str, Any]:
    if "server" in data:
        raise QuestionError(f"server: given in the question and by --profile {profile}; leave one out")
    measured = _load(profile.read_text(encoding="utf-8"), str(profile))
    if "schema" in measured:
        return {**data, "server": read_profile(profile).server.model_dump()}
    if "server" not in measured:
        raise QuestionError(f"{profile}: has no `server`; `outrider calibrate` writes one")
    return {**data, "server": measured["server"]}
