"""Query and answer of `outrider plan`, in JSON. The query is checked field by field; unknown fields are errors."""

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from shared.planning.objective import ObjectiveName
from shared.planning.problem import LengthBounds, Problem, User, expected_tokens
from shared.planning.server_laws import Milliseconds, Positive, ServerLaw, Size, StrictModel
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.solve import SolverName

Q = TypeVar("Q", bound=BaseModel)


class QueryError(ValueError):
    """The query is not valid; the text names the fields."""


class UserQuery(StrictModel):
    """One user of a query."""

    id: Annotated[str, Field(min_length=1)]
    alpha: Annotated[float, Field(ge=0, lt=1)]
    prefix: Annotated[int, Field(ge=0)]
    draft_ms_per_token: Positive
    comm_ms: Milliseconds = 0.0
    weight: Positive = 1.0


class PlanningQuery(StrictModel):
    """Planning query: users, server, objective, limits."""

    server: ServerLaw
    users: Annotated[tuple[UserQuery, ...], Field(min_length=1, strict=False)]
    max_draft: Annotated[int, Field(ge=0, le=256)] = 20
    min_draft: Annotated[int, Field(ge=0)] = 1
    min_batches: Size = 1
    max_batches: Size | None = None
    objective: ObjectiveName = "throughput"
    solver: SolverName = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[str] = set()
        for user in self.users:
            if user.id in seen:
                raise ValueError(f"users: id {user.id!r} twice")
            seen.add(user.id)
        if self.min_draft > self.max_draft:
            raise ValueError(f"min_draft: {self.min_draft} is above max_draft {self.max_draft}")
        if self.max_batches is not None and self.min_batches > self.max_batches:
            raise ValueError(f"min_batches: {self.min_batches} is above max_batches {self.max_batches}")
        return self

    def problem(self) -> Problem:
        """The problem for the planner."""
        users = tuple(
            User(user.id, user.alpha, user.prefix, user.draft_ms_per_token, user.comm_ms, user.weight)
            for user in self.users
        )
        bounds = LengthBounds(self.max_draft, self.min_draft, self.min_batches, self.max_batches)
        return Problem(users, self.server.server(), bounds)


def read_query(data: Any) -> PlanningQuery:
    """A query from parsed JSON. Raises QueryError."""
    return checked(PlanningQuery, data)


def checked(kind: type[Q], data: Any) -> Q:
    """A query of any objective from parsed JSON. Raises QueryError, with a line for each wrong field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise QueryError("; ".join(_error_text(part) for part in error.errors())) from None


def _error_text(error: Any) -> str:
    """One error of pydantic as a line that begins with the field."""
    where = ".".join(str(part) for part in error["loc"] if part not in {"padded", "packed"})
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["loc"] == ("objective",):
        message += "; 'latency' and 'goodput' have queries of their own"
    return f"{where}: {message}" if where else message


def plan_json(query: PlanningQuery, plan: ScoredPlan, solver: SolverName, plan_ms: float) -> dict[str, Any]:
    """The answer to a query: a plan as JSON. plan_ms: the time that planning took."""
    problem, ids = query.problem(), [user.id for user in query.users]
    tokens = expected_tokens(problem, plan.split)
    return {
        "batches": [[ids[m] for m in batch] for batch in plan.split.batches],
        "draft_lengths": dict(zip(ids, plan.split.lengths, strict=True)),
        "cycle_ms": plan.cycle_ms,
        "expected_tokens": tokens,
        "tokens_per_s": 1e3 * tokens / plan.cycle_ms,
        "verifier_busy": plan.busy_ms / plan.cycle_ms,
        "objective": query.objective,
        "score": plan.score,
        "solver": solver,
        "plan_ms": plan_ms,
    }
