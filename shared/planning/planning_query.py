"""`outrider plan`'s question and answer, in JSON. The question is checked field by field; unknown fields are errors."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.planning.cost import Packed, Padded
from shared.planning.objective import ObjectiveName
from shared.planning.problem import Bounds, PackedServer, PaddedServer, Problem, Server, User, expected_tokens
from shared.planning.solvers.arrays.scored_plan import Plan
from shared.planning.solvers.solve import SolverName

Positive = Annotated[float, Field(gt=0)]
Milliseconds = Annotated[float, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]


class QuestionError(ValueError):
    """The question cannot be read; the text names the fields."""


class Strict(BaseModel):
    """Unknown fields, other types and infinities are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class PaddedLaw(Strict):
    """The paper's server: rows padded to the longest."""

    law: Literal["padded"]
    layers: Size
    hidden: Size
    ffn: Size
    c: Positive
    beta_ms: Milliseconds
    memory_bytes: Positive

    def server(self) -> Server:
        """As the planner takes it."""
        return PaddedServer(
            Padded(self.beta_ms, self.c, self.layers, self.hidden, self.ffn), self.memory_bytes
        )


class PackedLaw(Strict):
    """Outrider's verifier: rows cost what they are."""

    law: Literal["packed"]
    beta_ms: Milliseconds
    per_token_ms: Milliseconds
    per_context_ms: Milliseconds
    memory_bytes: Positive
    kv_bytes_per_token: Milliseconds

    def server(self) -> Server:
        """As the planner takes it."""
        law = Packed(self.beta_ms, self.per_token_ms, self.per_context_ms)
        return PackedServer(law, self.memory_bytes, self.kv_bytes_per_token)


AnyLaw = Annotated[PaddedLaw | PackedLaw, Field(discriminator="law")]


class UserIn(Strict):
    """One user of a question."""

    id: Annotated[str, Field(min_length=1)]
    alpha: Annotated[float, Field(ge=0, lt=1)]
    prefix: Annotated[int, Field(ge=0)]
    draft_ms_per_token: Positive
    comm_ms: Milliseconds = 0.0
    weight: Positive = 1.0


class PlanningQuery(Strict):
    """What to plan."""

    server: AnyLaw
    users: Annotated[tuple[UserIn, ...], Field(min_length=1, strict=False)]
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
        """As the planner takes it."""
        users = tuple(
            User(user.id, user.alpha, user.prefix, user.draft_ms_per_token, user.comm_ms, user.weight)
            for user in self.users
        )
        bounds = Bounds(self.max_draft, self.min_draft, self.min_batches, self.max_batches)
        return Problem(users, self.server.server(), bounds)


def read_question(data: Any) -> PlanningQuery:
    """Of parsed JSON. Raises QuestionError."""
    try:
        return PlanningQuery.model_validate(data)
    except ValidationError as error:
        raise QuestionError("; ".join(_told(part) for part in error.errors())) from None


def _told(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in {"padded", "packed"})
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def answer(question: PlanningQuery, plan: Plan, solver: SolverName, plan_ms: float) -> dict[str, Any]:
    """A plan as JSON has it."""
    problem, ids = question.problem(), [user.id for user in question.users]
    tokens = expected_tokens(problem, plan.split)
    return {
        "batches": [[ids[m] for m in batch] for batch in plan.split.batches],
        "draft_lengths": dict(zip(ids, plan.split.lengths, strict=True)),
        "cycle_ms": plan.cycle_ms,
        "expected_tokens": tokens,
        "tokens_per_s": 1e3 * tokens / plan.cycle_ms,
        "verifier_busy": plan.busy_ms / plan.cycle_ms,
        "objective": question.objective,
        "score": plan.score,
        "solver": solver,
        "plan_ms": plan_ms,
    }
